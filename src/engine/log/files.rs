//! What of an open log is on disk, for those who look after its files. They change nothing behind its back.

use std::sync::{Arc, atomic::Ordering};

use super::Log;
use crate::{
    storage::{
        log::{spare::RecycleHold, writer::LogPlace},
        manifest::OpenManifest,
    },
    types::hash::KeyHasher,
};

impl Log {
    /// Where it lives.
    pub(crate) fn place(&self) -> &LogPlace {
        &self.place
    }

    /// Which files it consists of.
    pub(crate) fn open_manifest(&self) -> &Arc<OpenManifest> {
        &self.manifest
    }

    /// Whoever opens log files by their names takes it before, and keeps it as long as they are read.
    pub(crate) fn hold_files(&self) -> RecycleHold {
        self.recycled.hold()
    }

    /// The log offset up to which it is durable, behind a frame.
    pub(crate) fn durable_end(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// How its keys are hashed.
    pub(crate) fn hasher(&self) -> KeyHasher {
        self.shared.hasher
    }
}
