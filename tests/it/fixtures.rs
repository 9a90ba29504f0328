//! A data folder as an earlier version wrote it, `tests/fixtures/format-1`, and what is in it, `format-1.jsonl` beside
//! it: whoever changes the format notices here, and knows that folders of that version are there.
//!
//! `ANNALS_WRITE_FIXTURES=1 cargo nextest run fixtures` writes both again. That is right only as long as no version with
//! this format was released; later ones get a folder of their own.

mod events;
pub(crate) mod folder;

use std::{env, fs, path::Path};

use annals::{Engine, TenantId, storage::log::file::HEADER_BYTES};

use self::{
    events::{TENANTS, lines, write},
    folder::{copy, files, golden, rows},
};

fn is_writing() -> bool {
    env::var_os("ANNALS_WRITE_FIXTURES").is_some()
}

async fn open_all(dir: &Path) -> String {
    let engine = Engine::open(dir, events::options()).unwrap();
    let mut text = String::new();
    for tenant in TENANTS {
        let id = TenantId::try_from(*tenant).unwrap();
        let tenant = engine.tenant(&id).await.unwrap();
        assert_eq!(tenant.recovery().cut_bytes, 0);
        text += &lines(&tenant).await;
    }
    text
}

#[tokio::test]
async fn the_golden_folder_holds_what_was_written() {
    let expected = golden().with_extension("jsonl");
    if is_writing() {
        drop(fs::remove_dir_all(golden()));
        write(&golden()).await;
        folder::tidy(&golden());
        let dir = tempfile::tempdir().unwrap();
        copy(&golden(), dir.path());
        fs::write(&expected, open_all(dir.path()).await).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(), dir.path());
    let expected = fs::read_to_string(expected).unwrap();
    // Opening copies the newest file; what it wrote is read as well.
    for _ in 0..2 {
        let found = open_all(dir.path()).await;
        for (found, expected) in found.lines().zip(expected.lines()) {
            assert_eq!(found, expected);
        }
        assert_eq!(found.lines().count(), expected.lines().count());
    }
}

/// Marks depend on time, salts and log ids are random; rows and the start of a file are the same every time.
#[tokio::test]
async fn what_is_written_now_is_what_was_written() {
    if is_writing() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    for tenant in TENANTS {
        let (then, now) = (files(&golden(), tenant), files(dir.path(), tenant));
        assert!(rows(&then) == rows(&now), "the rows of {tenant} differ");
        let start =
            |files: &[Vec<u8>]| (files[0][..20].to_vec(), files[0][76..HEADER_BYTES].to_vec());
        assert_eq!(start(&then), start(&now));
        let manifest = |dir: &Path| fs::read(dir.join("tenants").join(tenant).join("manifest"));
        let (then, now) = (manifest(&golden()).unwrap(), manifest(dir.path()).unwrap());
        assert_eq!((&then[..20], then.len()), (&now[..20], now.len()));
    }
}
