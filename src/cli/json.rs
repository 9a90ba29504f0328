//! Events as JSON lines, written straight from where they arrived: payloads are copied, not parsed.

use crate::proto::EventView;

/// Writes events; remembers the last time written, which many events share.
#[derive(Debug, Default)]
pub(super) struct EventWriter {
    time: Option<(i64, [u8; TIME_LEN])>,
}

const TIME_LEN: usize = "0001-01-01T00:00:00.000000Z".len();

impl EventWriter {
    /// Appends the event as one line.
    pub(super) fn write(&mut self, event: &EventView<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"position":"#);
        write_number(event.position, out);
        out.extend_from_slice(br#","entity_id":"#);
        write_string(event.entity_id, out);
        out.extend_from_slice(br#","version":"#);
        write_number(event.version, out);
        out.extend_from_slice(br#","event_type":"#);
        write_string(event.event_type, out);
        out.extend_from_slice(br#","event_id":"#);
        write_string(event.event_id, out);
        out.extend_from_slice(br#","recorded_at":""#);
        out.extend_from_slice(&self.recorded_at(event.recorded_at));
        out.push(b'"');
        if let Some(occurred_at) = event.occurred_at {
            out.extend_from_slice(br#","occurred_at":""#);
            out.extend_from_slice(&time_text(occurred_at));
            out.push(b'"');
        }
        out.extend_from_slice(br#","payload":"#);
        write_json(event.payload, out);
        if let Some(metadata) = event.metadata {
            out.extend_from_slice(br#","metadata":"#);
            write_json(metadata, out);
        }
        let mut separator = br#","tags":["#.as_slice();
        let mut tags = event.tags.clone().peekable();
        if tags.peek().is_some() {
            for tag in tags {
                out.extend_from_slice(separator);
                write_string(tag, out);
                separator = b",";
            }
            out.push(b']');
        }
        out.extend_from_slice(b"}\n");
    }

    fn recorded_at(&mut self, micros: i64) -> [u8; TIME_LEN] {
        match self.time {
            Some((last, text)) if last == micros => text,
            _ => {
                let text = time_text(micros);
                self.time = Some((micros, text));
                text
            }
        }
    }
}

/// JSON text on one line: outside of strings, where a line break can only be white space, it becomes a space; inside of
/// them none can stand.
fn write_json(json: &str, out: &mut Vec<u8>) {
    let from = out.len();
    out.extend_from_slice(json.as_bytes());
    for byte in out.iter_mut().skip(from) {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// A JSON string.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    let plain = |b: u8| b >= 0x20 && b != b'"' && b != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing to memory does not fail.
        serde_json::to_writer(out, text).ok();
    }
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let from = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(from..) {
        digits.reverse();
    }
}

/// RFC 3339 with microseconds, as `Timestamp` prints it, without its general formatting.
pub(super) fn time_text(micros: i64) -> [u8; TIME_LEN] {
    let seconds = micros.div_euclid(1_000_000);
    let (year, month, day) = civil_date(seconds.div_euclid(86_400));
    let second_of_day = seconds.rem_euclid(86_400);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let mut put = |digits: std::ops::Range<usize>, number: i64| {
        let mut number = number.unsigned_abs();
        for at in digits.rev() {
            if let Some(digit) = text.get_mut(at) {
                *digit = b'0' + (number % 10) as u8;
            }
            number /= 10;
        }
    };
    put(0..4, year);
    put(5..7, month);
    put(8..10, day);
    put(11..13, second_of_day / 3_600);
    put(14..16, second_of_day / 60 % 60);
    put(17..19, second_of_day % 60);
    put(20..26, micros.rem_euclid(1_000_000));
    text
}

/// Year, month and day of a day since 1970: `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date
/// Algorithms" (<https://howardhinnant.github.io/date_algorithms.html>).
fn civil_date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::time::Timestamp;

    fn line(event: &EventView<'_>) -> String {
        let mut out = Vec::new();
        EventWriter::default().write(event, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_one_line_of_json_with_its_payload_as_it_was() {
        let event = EventView {
            position: 1200,
            version: 3,
            recorded_at: 0,
            event_id: "0190d7a4-0000-7000-8000-000000000000",
            entity_id: "a \"b\" \\ c",
            event_type: "order.paid",
            payload: "{\"amount\": 1.50,\n \"b\":[ 1 ]}",
            metadata: Some("{\r\n}"),
            ..EventView::default()
        };
        assert_eq!(
            line(&event),
            concat!(
                r#"{"position":1200,"entity_id":"a \"b\" \\ c","version":3,"event_type":"order.paid","#,
                r#""event_id":"0190d7a4-0000-7000-8000-000000000000","recorded_at":"1970-01-01T00:00:00.000000Z","#,
                r#""payload":{"amount": 1.50,  "b":[ 1 ]},"metadata":{  }}"#,
                "\n"
            )
        );
    }

    proptest! {
        #[test]
        fn times_print_as_elsewhere(micros in Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros()) {
            let expected = Timestamp::from_micros(micros).unwrap().to_string();
            let text = time_text(micros);
            prop_assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
        }

        #[test]
        fn numbers_print_as_elsewhere(number: u64) {
            let mut out = Vec::new();
            write_number(number, &mut out);
            prop_assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
