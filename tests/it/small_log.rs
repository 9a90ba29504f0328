//! A small log to damage, and where in its files everything is.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use annals::{
    Batch, Event, NewEvent,
    storage::log::{
        file::{FileHeader, HEADER_BYTES},
        frame::Frame,
    },
};

use crate::{
    rng::Rng,
    sim_disk::SimDisk,
    workload::{default_tenant, new_id, open, read_all, runtime},
};

/// A log of a full file and another one, and its events.
pub(crate) struct SmallLog {
    pub(crate) disk: SimDisk,
    pub(crate) batches: Vec<Batch>,
    pub(crate) events: Vec<Event>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Stop {
    Clean,
    /// The last group has no mark behind it.
    Unclean,
}

impl SmallLog {
    pub(crate) fn new(stop: Stop) -> Self {
        let (disk, runtime, mut rng) = (SimDisk::new(1), runtime(), Rng::new(1));
        let engine = open(&disk).unwrap();
        let tenant = default_tenant(&runtime, &engine);
        let mut batches = Vec::new();
        loop {
            let count = 1 + rng.below(2);
            let events = (0..count).map(|n| {
                NewEvent::new(format!("order {n}"), "paid", r#"{"amount":12}"#)
                    .with_id(new_id(&mut rng))
                    .with_tags(["x"])
                    .with_metadata("{}")
            });
            let batch = Batch::new(events.collect::<Vec<_>>());
            runtime.block_on(tenant.append(batch.clone())).unwrap();
            batches.push(batch);
            let copy = disk.restart();
            let frames = Frames::of(&copy, &last_log_file(&copy));
            // With luck the log is never quiet for long; else there is a mark, and one more batch.
            let wanted = stop == Stop::Clean || frames.last_events.end == frames.end;
            if log_files(&copy).len() == 2 && frames.end > HEADER_BYTES + 300 && wanted {
                let events = read_all(&tenant).unwrap();
                let disk = if stop == Stop::Clean {
                    engine.close();
                    disk.restart()
                } else {
                    copy
                };
                return Self {
                    disk,
                    batches,
                    events,
                };
            }
        }
    }
}

/// Where the frames of a file are.
pub(crate) struct Frames {
    /// The last one with events.
    pub(crate) last_events: Range<usize>,
    /// Behind the last one.
    pub(crate) end: usize,
}

impl Frames {
    pub(crate) fn of(disk: &SimDisk, path: &Path) -> Self {
        let bytes = disk.content(path);
        let salt = FileHeader::decode(&bytes[..HEADER_BYTES]).unwrap().salt;
        let mut last_events = HEADER_BYTES..HEADER_BYTES;
        let mut end = HEADER_BYTES;
        while let Ok(frame) = Frame::check(&bytes[end..], salt) {
            let start = end;
            end += frame.as_bytes().len();
            if frame.events() > 0 {
                last_events = start..end;
            }
        }
        Self { last_events, end }
    }
}

pub(crate) fn log_files(disk: &SimDisk) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.extension() == Some("log".as_ref()));
    files
}

pub(crate) fn last_log_file(disk: &SimDisk) -> PathBuf {
    log_files(disk).pop().unwrap()
}
