//! Whether text is JSON that every reader downstream can take: well-formed, of bounded depth, with numbers that have a
//! value and strings that are Unicode.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::types::limits::JSON_DEPTH_MAX;

/// Checks one JSON value. `object` asks for an object, and for its keys not to be reserved.
pub(super) fn check(text: &str, object: bool) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // Depth is counted here, where it is the documented one; it bounds the recursion.
    deserializer.disable_recursion_limit();
    let seed = Checked {
        depth_left: JSON_DEPTH_MAX,
        top_object: object,
    };
    seed.deserialize(&mut deserializer)?;
    deserializer.end()
}

#[derive(Clone, Copy)]
struct Checked {
    depth_left: usize,
    top_object: bool,
}

impl Checked {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth_left = self
            .depth_left
            .checked_sub(1)
            .ok_or_else(|| E::custom(format_args!("nested more than {JSON_DEPTH_MAX} deep")))?;
        Ok(Self {
            depth_left,
            top_object: false,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.top_object {
            deserializer.deserialize_map(self)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.top_object {
            "a JSON object"
        } else {
            "JSON"
        })
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while map
            .next_key_seed(Key {
                reserved: self.top_object,
            })?
            .is_some()
        {
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// A key of an object.
struct Key {
    /// Refuse those that are reserved.
    reserved: bool,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if self.reserved && key.starts_with("annals.") {
            return Err(E::custom(format_args!(
                "the key `{key}` is reserved: `annals.` is ours"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_json() {
        for text in [
            "null",
            "1",
            "-0.5e-3",
            "\"x\\u00e4\\ud83d\\ude00\"",
            "[]",
            " {\"a\": [1, {}]} ",
        ] {
            assert!(check(text, false).is_ok(), "{text}");
        }
        for text in [
            "",
            "nul",
            "01",
            "1.",
            "NaN",
            "\"\\ud800\"",
            "\"\t\"",
            "[1,]",
            "{} {}",
            "'a'",
            "1e999",
        ] {
            assert!(check(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check(&nested(JSON_DEPTH_MAX), false).is_ok());
        assert!(check(&nested(JSON_DEPTH_MAX + 1), false).is_err());
        assert!(check(&nested(1_000_000), false).is_err());
    }

    #[test]
    fn metadata_is_an_object_without_reserved_keys() {
        assert!(check(r#"{"a":{"annals.x":1}}"#, true).is_ok());
        assert!(check("[]", true).is_err());
        assert!(check(r#"{"annals.x":1}"#, true).is_err());
    }
}
