//! What reads keep between two batches: decoders of segments, which hold a few MiB each.
//!
//! Only so many are kept in the process. Whoever finds no room starts anew with its next batch. A reader that stalls gives
//! its room up: when it did not come for what it left while others came many times, what it left is dropped, and it starts
//! anew as well.

use std::{any::Any, collections::BTreeMap, marker::PhantomData, sync::Arc};

use parking_lot::Mutex;

/// So many others leave something before what is not fetched is dropped, for each that there is room for: readers that go
/// on, even if they are some more than there is room for, come more often.
const TURNS: u64 = 4;

/// Room for a number of readers.
pub(crate) struct ScanRoom {
    max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// What was left, by when it was.
    things: BTreeMap<u64, Box<dyn Any + Send>>,
    turn: u64,
}

/// Where a reader finds what it left. Dropping it drops that.
pub(crate) struct Place<T> {
    room: Arc<ScanRoom>,
    turn: u64,
    left: PhantomData<fn() -> T>,
}

impl ScanRoom {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            kept: Mutex::default(),
        }
    }

    /// Leaves something until it is taken; gives it back if there is no room.
    pub(crate) fn leave<T: Send + 'static>(self: &Arc<Self>, thing: T) -> Result<Place<T>, T> {
        let mut kept = self.kept.lock();
        kept.turn += 1;
        let turn = kept.turn;
        let mut stalled = None;
        if kept.things.len() >= self.max {
            let oldest = kept.things.first_entry();
            let patience = TURNS * self.max as u64;
            match oldest.filter(|oldest| turn - oldest.key() > patience) {
                Some(oldest) => stalled = Some(oldest.remove()),
                None => return Err(thing),
            }
        }
        kept.things.insert(turn, Box::new(thing));
        drop(kept);
        // It closes files: not under the lock.
        drop(stalled);
        Ok(Place {
            room: Arc::clone(self),
            turn,
            left: PhantomData,
        })
    }
}

impl<T: 'static> Place<T> {
    /// What was left; `None` if it was dropped meanwhile.
    pub(crate) fn take(self) -> Option<T> {
        let thing = self.room.kept.lock().things.remove(&self.turn)?;
        thing.downcast().ok().map(|thing| *thing)
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        let left = self.room.kept.lock().things.remove(&self.turn);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_there_until_it_is_taken_or_given_up() {
        let room = Arc::new(ScanRoom::new(2));
        let one = Arc::new(1);
        let first = room.leave(Arc::clone(&one)).unwrap();
        let second = room.leave("two").unwrap();
        assert_eq!(room.leave(3).err(), Some(3));
        assert_eq!(second.take(), Some("two"));
        assert_eq!(first.take(), Some(Arc::clone(&one)));
        drop(room.leave(Arc::clone(&one)).unwrap());
        assert_eq!(
            (Arc::strong_count(&one), room.kept.lock().things.len()),
            (1, 0)
        );
    }

    #[test]
    fn who_stalls_gives_its_room_to_one_who_goes_on() {
        let max = 4;
        let room = Arc::new(ScanRoom::new(max));
        let stalled: Vec<_> = (0..max).map(|n| room.leave(n).unwrap()).collect();
        // One that finds no room goes on all the same, and has room soon.
        let refused = (0..1_000).take_while(|n| room.leave(*n).is_err()).count();
        assert!(
            refused as u64 <= TURNS * max as u64,
            "refused {refused} times"
        );
        for n in 0..1_000 {
            assert_eq!(room.leave(n).unwrap().take(), Some(n));
        }
        assert_eq!(room.kept.lock().things.len(), max - 1);
        let kept: Vec<_> = stalled.into_iter().map(Place::take).collect();
        assert_eq!(kept, [None, Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn some_more_than_there_is_room_for_do_not_take_it_from_each_other() {
        let max = 8;
        let room = Arc::new(ScanRoom::new(max));
        let mut places: Vec<Option<Place<usize>>> = (0..2 * max).map(|_| None).collect();
        for _ in 0..50 {
            for (n, place) in places.iter_mut().enumerate() {
                let thing = place
                    .take()
                    .map(|place| place.take().expect("nobody took it"));
                *place = room.leave(thing.unwrap_or(n)).ok();
            }
        }
        assert_eq!(places.iter().flatten().count(), max);
    }
}
