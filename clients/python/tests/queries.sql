-- Both engines are asked the same text; one statement a line.
SELECT count(*) FROM events
SELECT count(*), count(occurred_at), count(DISTINCT entity_id), min(position), max(position) FROM events
SELECT event_type, count(*) FROM events GROUP BY event_type
SELECT event_type, count(*) AS n FROM events GROUP BY 1 HAVING count(*) > 400
SELECT entity_id, count(*), min(position), max(position) FROM events GROUP BY entity_id
SELECT entity_id, event_type, count(*) FROM events GROUP BY 1, 2
SELECT position, entity_id, event_type FROM events WHERE entity_id = 'order-7'
SELECT position FROM events WHERE entity_id IN ('order-1', 'order-2', 'nobody')
SELECT position FROM events WHERE entity_id <> 'order-1' AND position <= 200
SELECT position FROM events WHERE event_type = 'order.paid'
SELECT position FROM events WHERE event_type = 'order.paid' AND entity_id = 'order-3'
SELECT position FROM events WHERE event_type IN ('order.paid', 'invoice.sent') AND position > 2500
SELECT position FROM events WHERE event_type LIKE 'order.%' AND position <= 300
SELECT position FROM events WHERE event_type NOT LIKE 'order.%'
SELECT position FROM events WHERE starts_with(event_type, 'inv')
SELECT position FROM events WHERE event_type = 'it''s "odd"'
SELECT position FROM events WHERE array_has(tags, 'vip')
SELECT position FROM events WHERE array_has(tags, 'vip') AND array_has(tags, 'region:eu')
SELECT position FROM events WHERE array_has(tags, 'vip') OR event_type = 'order.paid'
SELECT position FROM events WHERE NOT array_has(tags, 'vip') AND position < 500
SELECT position FROM events WHERE position = 17
SELECT position FROM events WHERE position BETWEEN 700 AND 790
SELECT position FROM events WHERE position > 2900
SELECT position FROM events WHERE position >= 2900 AND position < 2950
SELECT position FROM events WHERE position < 1
SELECT position FROM events WHERE position > 10 AND position < 5
SELECT position FROM events WHERE position IN (1, 5, 2999, 100000)
SELECT position FROM events WHERE position % 500 = 3
SELECT position FROM events WHERE -position > -20
SELECT position FROM events WHERE 100 > position
SELECT position FROM events ORDER BY position LIMIT 10
SELECT position FROM events ORDER BY position DESC LIMIT 10
SELECT position FROM events ORDER BY position DESC LIMIT 10 OFFSET 5
SELECT position FROM events WHERE event_type = 'order.paid' ORDER BY position DESC LIMIT 7
SELECT position FROM events WHERE entity_id = 'order-5' ORDER BY position DESC LIMIT 1
SELECT event_type, position FROM events ORDER BY event_type, position LIMIT 20
SELECT entity_id FROM events GROUP BY entity_id ORDER BY count(*) DESC, entity_id LIMIT 5
SELECT count(*) FROM events WHERE occurred_at IS NULL
SELECT count(*) FROM events WHERE occurred_at >= TIMESTAMPTZ '2024-06-01 00:00:00Z'
SELECT position FROM events WHERE occurred_at >= TIMESTAMPTZ '2024-03-01 00:00:00Z' AND occurred_at < TIMESTAMPTZ '2024-03-03 00:00:00Z'
SELECT position FROM events WHERE occurred_at < TIMESTAMPTZ '2024-01-02 00:00:00Z' OR occurred_at IS NULL
SELECT count(*) FROM events WHERE recorded_at > TIMESTAMPTZ '2020-01-01 00:00:00Z'
SELECT count(*) FROM events WHERE recorded_at > TIMESTAMPTZ '2200-01-01 00:00:00Z'
SELECT date_trunc('day', occurred_at) AS day, count(*) FROM events GROUP BY 1
SELECT date_trunc('month', occurred_at) AS month, event_type, count(*) FROM events GROUP BY 1, 2
SELECT extract(hour FROM occurred_at) AS hour, count(*) FROM events GROUP BY 1
SELECT extract(dow FROM occurred_at) AS day, count(*) FROM events GROUP BY 1
SELECT extract(year FROM occurred_at) AS year, extract(month FROM occurred_at) AS month, count(*) FROM events GROUP BY 1, 2
SELECT max(recorded_at) >= min(recorded_at) FROM events
SELECT payload ->> 'office' AS office, count(*) FROM events GROUP BY 1
SELECT payload ->> 'office' AS office, sum(CAST(payload ->> 'amount' AS BIGINT)) FROM events GROUP BY 1
SELECT sum(CAST(payload ->> 'amount' AS BIGINT)), avg(CAST(payload ->> 'amount' AS DOUBLE)) FROM events
SELECT position, payload ->> 'amount' FROM events WHERE CAST(payload ->> 'amount' AS BIGINT) > 990
SELECT position FROM events WHERE (payload ->> 'office') = 'Zürich' AND event_type = 'order.paid'
SELECT position FROM events WHERE (payload ->> 'office') IS NULL
SELECT position FROM events WHERE (payload ->> 'missing') IS NOT NULL
SELECT payload -> 'nested' ->> 'a' AS a, count(*) FROM events GROUP BY 1
SELECT payload ->> 'flag' AS flag, count(*) FROM events GROUP BY 1
SELECT CAST(payload ->> 'price' AS DOUBLE) AS price, position FROM events ORDER BY price DESC NULLS LAST, position LIMIT 5
SELECT position, metadata ->> 'correlation_id' FROM events WHERE metadata IS NOT NULL AND position < 300
SELECT count(*), count(metadata) FROM events
SELECT upper(event_type), length(payload) FROM events WHERE position <= 20
SELECT sum(length(payload)) FROM events
SELECT payload FROM events WHERE position = 42
SELECT substr(entity_id, 7) AS n, count(*) FROM events WHERE entity_id LIKE 'order-1%' GROUP BY 1
SELECT replace(event_type, '.', '/') AS path, count(*) FROM events GROUP BY 1
SELECT split_part(event_type, '.', 1) AS family, count(*) FROM events GROUP BY 1
SELECT CASE WHEN position < 1000 THEN 'early' ELSE 'late' END AS era, count(*) FROM events GROUP BY 1
SELECT coalesce(payload ->> 'office', 'none') AS office, count(*) FROM events GROUP BY 1
SELECT tag, count(*) FROM (SELECT unnest(tags) AS tag FROM events) GROUP BY tag
SELECT count(*) FROM types."order.paid"
SELECT count(DISTINCT entity_id), min(position) FROM types."order.paid"
SELECT position FROM types."order.paid" WHERE entity_id = 'order-2'
SELECT position FROM types."order.paid" ORDER BY position DESC LIMIT 3
SELECT a.entity_id, count(*) FROM types."order.placed" a JOIN types."order.paid" b ON a.entity_id = b.entity_id GROUP BY 1
SELECT count(*) FROM types."order.placed" a LEFT JOIN types."invoice.sent" b ON a.entity_id = b.entity_id AND b.position > a.position
SELECT count(*) FROM entities
SELECT entity_id, events, first_position, last_position FROM entities WHERE entity_id = 'order-9'
SELECT entity_id, events FROM entities ORDER BY events DESC, entity_id LIMIT 4
SELECT sum(events) FROM entities
SELECT max(last_position) FROM entities WHERE entity_id LIKE 'order-2%'
SELECT e.entity_id, n.events, count(*) FROM events e JOIN entities n ON e.entity_id = n.entity_id GROUP BY 1, 2
SELECT count(*) FROM entities WHERE events > 50
SELECT position, row_number() OVER (PARTITION BY entity_id ORDER BY position) FROM events WHERE position <= 400
SELECT position, position - lag(position) OVER (PARTITION BY entity_id ORDER BY position) FROM events WHERE event_type = 'order.paid'
SELECT entity_id, event_type, lead(event_type) OVER (PARTITION BY entity_id ORDER BY position) FROM events WHERE position < 250
SELECT position, sum(CAST(payload ->> 'amount' AS BIGINT)) OVER (PARTITION BY entity_id ORDER BY position) FROM events WHERE entity_id IN ('order-1', 'order-4')
SELECT position, rank() OVER (ORDER BY event_type) FROM events WHERE position <= 50
SELECT event_type, first_value(position) OVER (PARTITION BY event_type ORDER BY position) FROM events WHERE position > 2800
WITH paid AS (SELECT entity_id, min(position) AS n FROM events WHERE event_type = 'order.paid' GROUP BY 1) SELECT count(*), min(n), max(n) FROM paid
WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20) SELECT x, count(position) FROM n LEFT JOIN events ON position % 20 + 1 = x GROUP BY x
SELECT entity_id FROM events WHERE event_type = 'order.placed' EXCEPT SELECT entity_id FROM events WHERE event_type = 'invoice.sent'
SELECT entity_id FROM types."order.paid" INTERSECT SELECT entity_id FROM types."invoice.sent"
SELECT count(*) FROM (SELECT position FROM events WHERE position < 10 UNION ALL SELECT position FROM events WHERE position < 20)
SELECT count(*) FROM events WHERE entity_id IN (SELECT entity_id FROM events WHERE event_type = 'invoice.sent')
SELECT count(*) FROM events e WHERE EXISTS (SELECT 1 FROM events f WHERE f.entity_id = e.entity_id AND f.event_type = 'order.shipped' AND f.position > e.position)
SELECT (SELECT max(position) FROM events) - (SELECT min(position) FROM events)
SELECT event_type, median(CAST(payload ->> 'amount' AS DOUBLE)) FROM events GROUP BY 1
SELECT event_type, stddev_samp(CAST(payload ->> 'price' AS DOUBLE)), min(payload ->> 'office') FROM events GROUP BY 1
SELECT count(*) FILTER (WHERE event_type = 'order.paid'), count(*) FILTER (WHERE array_has(tags, 'vip')) FROM events
SELECT event_type, bool_and(position > 0), bool_or(position > 2990) FROM events GROUP BY 1
SELECT grouping(event_type), event_type, count(*) FROM events GROUP BY ROLLUP (event_type)
SELECT DISTINCT event_type FROM events
SELECT DISTINCT ON (entity_id) entity_id, position FROM events ORDER BY entity_id, position DESC
SELECT 1 + 1, 'a' || 'b', NULL, 2.5 * 2
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(n, name)
SELECT position, event_id, entity_id, event_type, occurred_at, payload, metadata, tags FROM events WHERE position BETWEEN 1195 AND 1210
