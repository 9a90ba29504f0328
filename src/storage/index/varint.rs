//! Numbers in as few bytes as they need: seven bits a byte, low ones first, the high bit says that more follow (LEB128).

/// Most bytes of one number.
pub(super) const BYTES_MAX: usize = 10;

/// Appends a number.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes the number that `bytes` start with; `None` if they start with none.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip(numbers in proptest::collection::vec(any::<u64>(), 0..20), shift in 0u32..64) {
            let mut bytes = Vec::new();
            for number in &numbers {
                put(&mut bytes, number >> shift);
            }
            prop_assert!(bytes.len() <= numbers.len() * BYTES_MAX);
            let mut rest = bytes.as_slice();
            for number in &numbers {
                prop_assert_eq!(take(&mut rest), Some(number >> shift));
            }
            prop_assert_eq!(take(&mut rest), None);
        }
    }

    #[test]
    fn what_does_not_fit_is_no_number() {
        assert_eq!(take(&mut [0xff; 20].as_slice()), None);
        assert_eq!(take(&mut [0x80; 3].as_slice()), None);
        let mut largest = [0xff; 10];
        largest[9] = 1;
        assert_eq!(take(&mut largest.as_slice()), Some(u64::MAX));
        largest[9] = 2;
        assert_eq!(take(&mut largest.as_slice()), None);
    }
}
