//! Files that are not what was written: the right answer or an error, whatever was done to them.

use std::{collections::BTreeMap, fmt::Debug, io, path::PathBuf, sync::Arc};

use proptest::prelude::*;

use super::{
    super::{RunSummary, block::BLOCK_BYTES, cache::BlockCache, layout::Header, reader::Run},
    plain::{KINDS, Line, Plain, log_id},
};
use crate::{
    storage::{
        bytes::put_u32,
        disk::{Disk, DiskFile, RealDisk},
    },
    types::{
        hash::KeyHasher,
        id::LogId,
        read::{Direction, NameKind, ReadError},
    },
};

/// A file in memory, with one bit turned.
#[derive(Clone)]
struct Image {
    bytes: Arc<Vec<u8>>,
    flipped_bit: Option<usize>,
}

impl DiskFile for Image {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = self.bytes.len().min(offset as usize);
        let len = buf.len().min(self.bytes.len() - start);
        buf[..len].copy_from_slice(&self.bytes[start..start + len]);
        if let Some(bit) = self.flipped_bit
            && (start..start + len).contains(&(bit / 8))
        {
            buf[bit / 8 - start] ^= 1 << (bit % 8);
        }
        Ok(len)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A run of a few blocks of each section.
struct Sample {
    plain: Plain,
    summary: RunSummary,
    bytes: Vec<u8>,
}

const SALT: u64 = 7;

impl Sample {
    fn new(salt: Option<u64>) -> Self {
        let hasher = KeyHasher::default();
        let mut plain = Plain::of_rows(5, 410);
        plain.add_ids(hasher);
        for i in 0..12 {
            let name = format!("entity-{i}-{:->300}", "");
            plain.add_name(NameKind::Entity, name.as_bytes(), i, 80);
        }
        plain.add_name(NameKind::Type, b"order.paid", 1, 900);
        let rows = plain.first..=plain.last();
        plain.names[2].insert(b"many".to_vec(), (3, rows.collect()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let summary = plain.write(&path, hasher, salt);
        let bytes = RealDisk.open(&path).unwrap().read_all().unwrap();
        Self {
            plain,
            summary,
            bytes,
        }
    }

    fn blocks(&self) -> usize {
        self.bytes.len() / BLOCK_BYTES
    }

    fn open(&self, image: Image) -> Result<Run, ReadError> {
        open(image, &self.summary, log_id(), KeyHasher::default())
    }

    fn open_bytes(&self, bytes: Vec<u8>) -> Result<Run, ReadError> {
        self.open(Image {
            bytes: Arc::new(bytes),
            flipped_bit: None,
        })
    }
}

fn open(
    image: Image,
    summary: &RunSummary,
    log_id: LogId,
    hasher: KeyHasher,
) -> Result<Run, ReadError> {
    let cache = Arc::new(BlockCache::new(1 << 20));
    let path = PathBuf::from("run.idx");
    Run::open(Arc::new(image), path, log_id, hasher, summary, cache)
}

/// What was asked, and the answer.
type Answers = BTreeMap<String, Result<String, ReadError>>;

/// Asks everything that a run can be asked.
fn ask(run: &Run, plain: &Plain) -> Answers {
    fn show<T: Debug>(answer: Result<T, ReadError>) -> Result<String, ReadError> {
        answer.map(|answer| format!("{answer:?}"))
    }
    let mut answers = Answers::new();
    let mut see = |question: String, answer| answers.insert(question, answer);

    let middle = plain.first + plain.places.len() as u64 / 2;
    for time in [-501, -500, -100, 0, 30, 10_000] {
        see(format!("at {time}"), show(run.position_at(time)));
    }
    see("place".to_owned(), show(run.place(middle)));
    let places = [plain.last(), middle, plain.first];
    see("places".to_owned(), show(run.places(&places)));
    for (hash, _) in plain.ids.iter().step_by(50) {
        see(format!("id {hash}"), show(run.ids(*hash)));
        see(format!("no id {hash}"), show(run.ids(hash + 1)));
    }
    see(
        "all ids".to_owned(),
        show(run.all_ids().collect::<Result<Vec<_>, _>>()),
    );
    for (kind, names) in KINDS.into_iter().zip(&plain.names) {
        for (prefix, after) in [("", None), ("entity-1", Some("entity-10"))] {
            let after = after.map(str::as_bytes);
            let listed = run.list(kind, prefix.as_bytes(), after);
            let listed: Result<Vec<_>, _> = listed.map(|name| Ok(Line::of(&name?))).collect();
            see(format!("{kind:?}s {prefix}"), show(listed));
        }
        let nobody = b"nobody".to_vec();
        for name in names.keys().chain([&nobody]) {
            let asked = format!("{kind:?} {}", String::from_utf8_lossy(name));
            let found = run.name(kind, KeyHasher::default().hash(name), name);
            let line = found.as_ref().map(|found| found.as_ref().map(Line::of));
            see(asked.clone(), show(line.map_err(Clone::clone)));
            let Ok(Some(found)) = found else { continue };
            for direction in [Direction::Forward, Direction::Backward] {
                let page = found.page(run, 3..=middle, direction, 20);
                see(format!("{asked} {direction:?}"), show(page));
            }
            let nth = found.nth(run, found.count / 2);
            see(format!("{asked} nth"), show(nth));
            let count = found.count_through(run, middle);
            see(format!("{asked} through"), show(count));
            let mut positions: Vec<_> = (run.first()..=run.last()).step_by(3).collect();
            let kept = found.retain(run, &mut positions).map(|()| positions);
            see(format!("{asked} retain"), show(kept));
        }
    }
    answers
}

fn is_damage<T>(answer: &Result<T, ReadError>) -> bool {
    matches!(answer, Err(ReadError::Damaged(_)))
}

#[test]
fn every_flipped_bit_is_noticed_when_its_block_is_read() {
    let sample = Sample::new(Some(SALT));
    let clean = Image {
        bytes: Arc::new(sample.bytes.clone()),
        flipped_bit: None,
    };
    for bit in 0..sample.bytes.len() * 8 {
        let number = bit / 8 / BLOCK_BYTES;
        let flipped = Image {
            flipped_bit: Some(bit),
            ..clean.clone()
        };
        let noticed = if number == 0 || number == sample.blocks() - 1 {
            is_damage(&sample.open(flipped))
        } else {
            let run = sample.open(flipped);
            run.is_ok_and(|run| is_damage(&run.block(number as u64)))
        };
        assert!(noticed, "bit {bit}");
    }
}

#[test]
fn a_flipped_bit_never_changes_an_answer() {
    let sample = Sample::new(Some(SALT));
    let run = sample.open_bytes(sample.bytes.clone()).unwrap();
    let right = ask(&run, &sample.plain);
    assert!(right.values().all(Result::is_ok));

    let bytes = Arc::new(sample.bytes.clone());
    let mut refused = 0;
    // A bit of nearly every field; all of them would take minutes.
    for bit in (0..sample.bytes.len() * 8).step_by(101) {
        let flipped = Image {
            bytes: Arc::clone(&bytes),
            flipped_bit: Some(bit),
        };
        let Ok(run) = sample.open(flipped) else {
            continue;
        };
        for (question, answer) in ask(&run, &sample.plain) {
            if let Err(ReadError::Damaged(damage)) = answer {
                let block = bit / 8 / BLOCK_BYTES * BLOCK_BYTES;
                assert_eq!(damage.offset, block as u64, "bit {bit}: {question}");
                refused += 1;
            } else {
                assert_eq!(Some(&answer), right.get(&question), "bit {bit}: {question}");
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn a_file_of_another_length_is_not_opened() {
    let sample = Sample::new(Some(SALT));
    let len = sample.bytes.len();
    for cut in [1, 7, 4095, 4096, 4097, 8192, len - 4096, len - 1, len] {
        let cut = sample.bytes[..len - cut].to_vec();
        assert!(is_damage(&sample.open_bytes(cut)));
    }
    let mut longer = sample.bytes.clone();
    longer.extend([0; BLOCK_BYTES]);
    assert!(is_damage(&sample.open_bytes(longer)));
}

#[test]
fn another_run_is_not_opened() {
    let sample = Sample::new(Some(SALT));
    let image = || Image {
        bytes: Arc::new(sample.bytes.clone()),
        flipped_bit: None,
    };
    let hasher = KeyHasher::default();
    let other_log = LogId::from_bytes([8; 16]);
    assert!(is_damage(&open(
        image(),
        &sample.summary,
        other_log,
        hasher
    )));
    let few_bits = KeyHasher::with_bits(8);
    assert!(is_damage(&open(
        image(),
        &sample.summary,
        log_id(),
        few_bits
    )));
    for (first, last) in [(1, 0), (0, 1)] {
        let other = RunSummary {
            first: sample.summary.first + first,
            last: sample.summary.last + last,
            ..sample.summary
        };
        assert!(is_damage(&open(image(), &other, log_id(), hasher)));
    }
    // The same events in another file: only its checksum tells.
    let rewritten = Sample::new(None);
    let run = sample.open_bytes(rewritten.bytes).unwrap();
    assert!(is_damage(&run.verify()));
}

#[test]
fn a_block_in_the_place_of_another_is_noticed() {
    let sample = Sample::new(Some(SALT));
    let rewritten = Sample::new(None);
    let at = |number: usize| number * BLOCK_BYTES..(number + 1) * BLOCK_BYTES;
    for a in 1..sample.blocks() - 1 {
        let mut mixed = sample.bytes.clone();
        mixed[at(a)].copy_from_slice(&rewritten.bytes[at(a)]);
        let run = sample.open_bytes(mixed).unwrap();
        assert!(is_damage(&run.block(a as u64)));
        for b in a + 1..sample.blocks() - 1 {
            let mut swapped = sample.bytes.clone();
            swapped[at(a)].copy_from_slice(&sample.bytes[at(b)]);
            swapped[at(b)].copy_from_slice(&sample.bytes[at(a)]);
            let run = sample.open_bytes(swapped).unwrap();
            assert!(is_damage(&run.block(a as u64)) && is_damage(&run.block(b as u64)));
        }
    }
}

#[test]
fn a_version_to_come_is_refused() {
    let sample = Sample::new(Some(SALT));
    for (at, number) in [(8, 2), (16, 4)] {
        let mut bytes = sample.bytes.clone();
        put_u32(&mut bytes, at, number);
        reseal(&mut bytes, 0);
        let Err(ReadError::Damaged(damage)) = sample.open_bytes(bytes) else {
            panic!("it was opened");
        };
        assert!(
            damage.what.contains("this version knows neither"),
            "{damage}"
        );
    }
}

/// Gives a block the checksum that its content asks for.
fn reseal(bytes: &mut [u8], number: usize) {
    let header = Header {
        log_id: log_id(),
        salt: SALT,
        first: 0,
        hasher: KeyHasher::default(),
    };
    let block = &mut bytes[number * BLOCK_BYTES..(number + 1) * BLOCK_BYTES];
    header
        .identity()
        .seal(number as u64, block.try_into().unwrap());
}

proptest! {
    /// Checksums are no defence against a mistake of our own; bounds are.
    #[test]
    fn malformed_content_with_a_valid_checksum_ends_in_an_answer_or_an_error(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0usize..5000, any::<u8>()), 1..6),
    ) {
        let sample = Sample::new(Some(SALT));
        let mut bytes = sample.bytes.clone();
        for (block, at, byte) in changes {
            let number = block.index(sample.blocks());
            // Mostly in the front of the block, where the numbers are that lead elsewhere.
            let at = if at >= 4092 { at % 200 } else { at };
            bytes[number * BLOCK_BYTES + at] = byte;
            reseal(&mut bytes, number);
        }
        if let Ok(run) = sample.open_bytes(bytes) {
            ask(&run, &sample.plain);
        }
    }
}
