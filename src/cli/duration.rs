//! Lengths of time as people write them: `250ms`, `30s`, `15m`, `1h`, `1d`, `2w`, and several of them, as in `1h30m`.

use std::time::Duration;

const UNITS: [(&str, u64); 7] = [
    // Those that begin like another come first.
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 604_800_000_000),
];

/// Reads one; for people, the error says how it is written.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    micros(text)
        .map(Duration::from_micros)
        .ok_or_else(|| "it is written like 250ms, 30s, 15m, 1h, 1d, 2w or 1h30m".to_owned())
}

fn micros(text: &str) -> Option<u64> {
    let (mut rest, mut micros) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let (unit, length) = UNITS.iter().find(|(unit, _)| behind.starts_with(unit))?;
        micros = micros.checked_add(number.checked_mul(*length)?)?;
        rest = behind.get(unit.len()..)?;
    }
    (!text.is_empty()).then_some(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, micros) in [
            ("10us", 10),
            ("250ms", 250_000),
            ("30s", 30_000_000),
            ("15m", 900_000_000),
            ("1h30m", 5_400_000_000),
            ("1d", 86_400_000_000),
            ("2w", 1_209_600_000_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_micros(micros)),
                "{text}"
            );
        }
        for wrong in [
            "",
            "1",
            "h",
            "1x",
            "1.5h",
            "-1h",
            "1 h",
            "99999999999999999999s",
            "9999999999999w",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
