//! What the server computes over many events.

use std::time::Duration;

use super::{Client, ClientError, retry::Retry, wire};
use crate::{
    proto,
    types::{
        analytics::{
            Correlation, CorrelationRequest, Durations, EventTime, Frequency, FrequencyRequest,
            Series, Summaries, Summary, SummaryRequest,
        },
        id::Position,
        read::Filter,
        text::Text,
    },
};

impl Client {
    /// Counts events in buckets of time, empty ones included.
    ///
    /// ```no_run
    /// # async fn example(client: annals::Client) -> Result<(), annals::ClientError> {
    /// use std::time::Duration;
    ///
    /// let mut request = annals::FrequencyRequest::new(Duration::from_secs(3_600));
    /// request.by_type = true;
    /// let frequency = client.frequency(&request).await?;
    /// for series in &frequency.series {
    ///     println!("{:?}: {:?}", series.event_type, series.counts);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn frequency(&self, request: &FrequencyRequest) -> Result<Frequency, ClientError> {
        let message = proto::GetEventFrequencyRequest {
            filter: Some(events(&request.filter, request.after, request.through)?),
            bucket: Some(duration(request.bucket)),
            time: event_time(request.time).into(),
            origin: Some(wire::wire_time(request.origin)),
            by_type: request.by_type,
            by_entity: request.by_entity,
            top: request.top.unwrap_or_default(),
            as_of: request.as_of.map(wire::as_of),
        };
        let mut retry = Retry::of(&self.options);
        let answer = loop {
            match self
                .query
                .clone()
                .get_event_frequency(message.clone())
                .await
            {
                Ok(answer) => break answer.into_inner(),
                Err(status) => retry.after(status.into()).await?,
            }
        };
        let series = answer.series.into_iter().map(|series| Series {
            event_type: request.by_type.then(|| series.event_type.into()),
            entity_id: request.by_entity.then(|| series.entity_id.into()),
            events: series.events,
            counts: series.counts,
        });
        Ok(Frequency {
            start: answer.start.map(wire::timestamp).transpose()?,
            bucket: time(answer.bucket)?,
            buckets: answer.buckets,
            series: series.collect(),
            events: answer.events,
            events_without_time: answer.events_without_time,
            head: answer.head,
            log_id: wire::log_id(&answer.log_id)?,
        })
    }

    /// Says how many events there are, of what, and the times between them.
    pub async fn summary(&self, request: &SummaryRequest) -> Result<Summaries, ClientError> {
        let message = proto::GetEventSummaryRequest {
            filter: Some(events(&request.filter, request.after, request.through)?),
            time: event_time(request.time).into(),
            by_type: request.by_type,
            without_intervals: request.without_intervals,
            as_of: request.as_of.map(wire::as_of),
        };
        let mut retry = Retry::of(&self.options);
        let answer = loop {
            match self.query.clone().get_event_summary(message.clone()).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) => retry.after(status.into()).await?,
            }
        };
        let total = answer
            .total
            .ok_or(ClientError::Answer("it has no summary"))?;
        let of_type = |of: proto::EventSummary| {
            let event_type = of.event_type.clone().into();
            summary(&of, Some(event_type))
        };
        Ok(Summaries {
            total: summary(&total, None)?,
            types: answer
                .types
                .into_iter()
                .map(of_type)
                .collect::<Result<_, _>>()?,
            head: answer.head,
            log_id: wire::log_id(&answer.log_id)?,
        })
    }

    /// Counts how often events of one type are followed by one of another, of the same entity.
    ///
    /// ```no_run
    /// # async fn example(client: annals::Client) -> Result<(), annals::ClientError> {
    /// use std::time::Duration;
    ///
    /// let request = annals::CorrelationRequest {
    ///     first_type: "order.placed".into(),
    ///     then_type: "order.paid".into(),
    ///     within: Some(Duration::from_secs(86_400)),
    ///     ..annals::CorrelationRequest::default()
    /// };
    /// let paid = client.correlation(&request).await?;
    /// println!("{} of {} paid in a day", paid.followed, paid.first_events);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn correlation(
        &self,
        request: &CorrelationRequest,
    ) -> Result<Correlation, ClientError> {
        let message = proto::GetEventCorrelationRequest {
            filter: Some(events(&request.filter, request.after, request.through)?),
            first_type: wire::string(&request.first_type, "first_type")?,
            then_type: wire::string(&request.then_type, "then_type")?,
            within: request.within.map(duration),
            time: event_time(request.time).into(),
            as_of: request.as_of.map(wire::as_of),
        };
        let mut retry = Retry::of(&self.options);
        let answer = loop {
            let mut query = self.query.clone();
            match query.get_event_correlation(message.clone()).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) => retry.after(status.into()).await?,
            }
        };
        Ok(Correlation {
            first_events: answer.first_events,
            then_events: answer.then_events,
            followed: answer.followed,
            share: answer.share,
            delays: durations(answer.delays)?,
            head: answer.head,
            log_id: wire::log_id(&answer.log_id)?,
        })
    }
}

fn events(
    filter: &Filter,
    after: Position,
    through: Option<Position>,
) -> Result<proto::EventFilter, ClientError> {
    Ok(proto::EventFilter {
        after,
        through: wire::bound(through, "through")?,
        ..wire::filter_message(filter)?
    })
}

fn event_time(time: EventTime) -> proto::EventTime {
    match time {
        EventTime::Recorded => proto::EventTime::Recorded,
        EventTime::Occurred => proto::EventTime::Occurred,
    }
}

fn duration(time: Duration) -> prost_types::Duration {
    // One that is too long for it is for the server as well.
    prost_types::Duration::try_from(time).unwrap_or(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 0,
    })
}

fn summary(of: &proto::EventSummary, event_type: Option<Text>) -> Result<Summary, ClientError> {
    Ok(Summary {
        event_type,
        events: of.events,
        entities: of.entities,
        event_types: of.event_types,
        first_position: of.first_position,
        last_position: of.last_position,
        first_time: of.first_time.map(wire::timestamp).transpose()?,
        last_time: of.last_time.map(wire::timestamp).transpose()?,
        events_without_time: of.events_without_time,
        intervals: durations(of.intervals)?,
        entity_intervals: durations(of.entity_intervals)?,
    })
}

fn durations(of: Option<proto::Durations>) -> Result<Durations, ClientError> {
    let of = of.unwrap_or_default();
    if of.count == 0 {
        return Ok(Durations::default());
    }
    Ok(Durations {
        count: of.count,
        min: time(of.min)?,
        max: time(of.max)?,
        mean: time(of.mean)?,
        p50: time(of.p50)?,
        p90: time(of.p90)?,
        p99: time(of.p99)?,
    })
}

fn time(of: Option<prost_types::Duration>) -> Result<Duration, ClientError> {
    of.unwrap_or_default()
        .try_into()
        .map_err(|_| ClientError::Answer("a duration of it is none"))
}
