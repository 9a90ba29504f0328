//! The rules of the house that no other tool checks: who may use whom (the map stands in `src/lib.rs`), where files and
//! the environment are touched, how long a file may grow, what the manifest and tracked files may say.
//!
//! A failure names file, line and rule. A new arrow is a change of the design: the table below and the map change in
//! the same commit.
//! Not here: what rustfmt, clippy, cargo-deny, cargo-shear and buf know already (`make check`).
#![cfg(test)]

#[path = "tidy/paths.rs"]
mod paths;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use syn::visit::Visit;

use paths::{Source, Use, root, sources};

/// Each module of the crate, and the others it may use. Everyone may use itself.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("storage", &["types"]),
    ("telemetry", &["types"]),
    ("engine", &["types", "storage", "telemetry"]),
    ("proto", &[]),
    ("service", &["types", "engine", "proto", "telemetry"]),
    ("config", &["types", "engine"]),
    ("client", &["types", "proto"]),
    (
        "server",
        &[
            "types",
            "storage",
            "engine",
            "proto",
            "service",
            "config",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "types",
            "engine",
            "proto",
            "config",
            "client",
            "server",
            "telemetry",
        ],
    ),
    ("main", &["cli", "config", "server", "telemetry"]),
];

/// The parts of `engine`: each may use those before it, never those after it.
const ENGINE_ORDER: &[&str] = &[
    "log",
    "subscription",
    "table",
    "state",
    "snapshot",
    "schema",
    "access",
    "ingest",
    "projection",
    "consumer",
    "pipeline",
    "replay",
    "sql",
    "analytics",
    "upkeep",
];

/// The crates that know gRPC, and the modules that may.
const WIRE: &[&str] = &[
    "arrow_flight",
    "prost",
    "prost_types",
    "tonic",
    "tonic_health",
    "tonic_prost",
    "tonic_reflection",
    "tonic_types",
];
const WIRE_USERS: &[&str] = &["proto", "service", "server", "client"];

/// Files are opened through `storage::disk`, so that the faulty disk of the tests sees every operation.
const FILE_CRATES: &[&[&str]] = &[&["std", "fs"], &["tokio", "fs"], &["rustix"]];
const WITHOUT_FILES: &[&str] = &["types", "storage", "engine"];

const ENVIRONMENT_READERS: &[&str] = &["config", "cli", "main"];

const LINES_MAX: usize = 600;

/// Direct dependencies that the lock file holds more than once, and why nothing can be done about it.
const SEVERAL_VERSIONS: &[(&str, &str)] = &[
    ("base64", "tonic has 0.22, parquet 0.23"),
    ("getrandom", "rand 0.9, which others depend on, has 0.3"),
    ("syn", "some derive macros are still written with 2"),
];

#[test]
fn modules_use_only_what_the_map_allows() {
    let found = sources("src")
        .into_iter()
        .flat_map(|source| arrows(&source));
    report(
        "see ARROWS in tests/tidy.rs and the map in src/lib.rs",
        found,
    );
}

#[test]
fn every_module_has_a_place_in_the_map() {
    let known: BTreeSet<_> = ARROWS.iter().map(|(module, _)| *module).collect();
    let found = sources("src")
        .into_iter()
        .filter(|source| !source.top().is_empty() && !known.contains(source.top()))
        .map(|source| format!("{}: `{}` is not listed", source.name, source.top()));
    report(
        "add the module to ARROWS in tests/tidy.rs and to the map in src/lib.rs",
        found,
    );
}

#[test]
fn the_wire_stays_at_the_edge() {
    let found = told("src", |source, used| {
        let krate = used.outside()?.first()?;
        let wire = WIRE.contains(&krate.as_str()) && !source.top().is_empty();
        (wire && !WIRE_USERS.contains(&source.top()))
            .then(|| format!("`{}` uses `{krate}`", source.top()))
    });
    report(
        "gRPC is known to proto, service, server and client only",
        found,
    );
}

#[test]
fn files_are_touched_through_the_disk_only() {
    let found = told("src", |source, used| {
        let path = used.outside()?;
        let forbidden = FILE_CRATES.iter().any(|prefix| begins(path, prefix));
        (forbidden
            && !used.test
            && !source.is("storage::disk")
            && WITHOUT_FILES.contains(&source.top()))
        .then(|| format!("`{}`", path.join("::")))
    });
    report(
        "types, storage and engine reach the file system through storage::disk",
        found,
    );
}

#[test]
fn the_environment_is_read_in_one_place() {
    let found = told("src", |source, used| {
        let path = used.outside()?;
        (begins(path, &["std", "env"])
            && !used.test
            && !ENVIRONMENT_READERS.contains(&source.top()))
        .then(|| format!("`{}`", path.join("::")))
    });
    report(
        "the environment is read by config, cli and main only",
        found,
    );
}

#[test]
fn every_file_opens_with_what_it_is() {
    let found = everything()
        .into_iter()
        .filter(|source| {
            !source
                .syntax
                .attrs
                .iter()
                .any(|attr| attr.path().is_ident("doc"))
        })
        .map(|source| format!("{}:1", source.name));
    report(
        "a file starts with `//!`: what it is, what it is not, its invariants",
        found,
    );
}

#[test]
fn source_files_stay_short_enough_to_read() {
    let found = sources("src")
        .into_iter()
        .map(|source| (source.text.lines().count(), source))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, source)| format!("{}:{LINES_MAX}: {lines} lines", source.name));
    report(
        "no source file is longer than 600 lines; split it by idea",
        found,
    );
}

#[test]
fn nothing_is_unfinished_ignored_or_excepted_without_a_reason() {
    let mut found = Vec::new();
    for source in everything() {
        let mut visitor = Shortcuts::default();
        visitor.visit_file(&source.syntax);
        found.extend(
            visitor
                .found
                .iter()
                .map(|(line, what)| format!("{}:{line}: {what}", source.name)),
        );
    }
    report(
        "no `#[ignore]`, no `todo!`, and lint exceptions say why",
        found,
    );
}

#[test]
fn integration_tests_are_one_binary() {
    let found = fs::read_dir(root().join("tests"))
        .expect("tests/ is readable")
        .map(|entry| entry.expect("tests/ is readable").path())
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "rs")
                || path.join("main.rs").exists()
        })
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .filter(|name| name != "it" && name != "tidy")
        .map(|name| format!("tests/{name}"));
    report(
        "each test binary links everything once more: tests belong into tests/it/",
        found,
    );
}

#[test]
fn dependencies_are_sorted() {
    let mut found = Vec::new();
    for (table, rows) in dependency_tables(&manifest()) {
        for pair in rows.windows(2) {
            let ((_, before), (line, after)) = (&pair[0], &pair[1]);
            if before > after {
                found.push(format!(
                    "Cargo.toml:{line}: [{table}] `{after}` stands after `{before}`"
                ));
            }
        }
    }
    report("dependency tables are sorted by name", found);
}

#[test]
fn direct_dependencies_have_one_version() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is readable");
    let quoted = |line: &str, key: &str| {
        Some(
            line.strip_prefix(key)?
                .trim_matches([' ', '=', '"'])
                .to_owned(),
        )
    };
    let mut versions = BTreeMap::<String, Vec<String>>::new();
    let lines: Vec<_> = lock.lines().collect();
    for pair in lines.windows(2) {
        if let (Some(name), Some(version)) = (quoted(pair[0], "name"), quoted(pair[1], "version")) {
            versions.entry(name).or_default().push(version);
        }
    }
    let direct: BTreeSet<_> = dependency_tables(&manifest())
        .into_iter()
        .flat_map(|(_, rows)| rows.into_iter().map(|(_, name)| name))
        .collect();
    let excepted = |name: &str| {
        SEVERAL_VERSIONS
            .iter()
            .any(|(exception, _)| *exception == name)
    };
    let several = |name: &str| {
        versions
            .get(name)
            .is_some_and(|versions| versions.len() > 1)
    };
    let mut found: Vec<_> = direct
        .iter()
        .filter(|name| several(name) && !excepted(name))
        .map(|name| format!("Cargo.lock: {name} {}", versions[name].join(", ")))
        .collect();
    found.extend(
        SEVERAL_VERSIONS
            .iter()
            .filter(|(name, _)| !several(name))
            .map(|(name, _)| {
                format!("tests/tidy.rs: the exception for {name} is no longer needed")
            }),
    );
    report("what we depend on is built in one version", found);
}

#[test]
fn tracked_files_name_no_machine() {
    // Put together here, so that this file passes its own rule.
    let words = ["root", "work"].map(|name| format!("/{name}/"));
    let mut found = Vec::new();
    for name in tracked_files() {
        let Ok(bytes) = fs::read(root().join(&name)) else {
            continue; // Deleted in the working tree, or a link to nowhere.
        };
        for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(*word)) {
                found.push(format!("{name}:{}: `{word}`", index + 1));
            }
        }
    }
    report(
        "tracked files hold no paths of one particular machine",
        found,
    );
}

#[test]
fn a_forbidden_arrow_is_seen_in_every_form() {
    let forms = [
        "use crate::engine::Log;",
        "use crate::{types::Position, engine::{self as e}};",
        "use super::engine::Log;",
        "fn f() { crate::engine::open(); }",
        "fn f(log: &Vec<crate::engine::Log>) {}",
        "fn f() { assert!(matches!(x, Some(crate::engine::Log { .. }))); }",
        "#[derive(crate::engine::Log)] struct S;",
        "mod inner { use super::super::engine::Log; }",
        "#[cfg(test)] mod tests { use annals::engine::Log; }",
    ];
    for form in forms {
        let found = arrows(&Source::parse("src/storage.rs", &["storage"], form));
        assert_eq!(found.len(), 1, "{form}: {found:?}");
        assert!(found[0].starts_with("src/storage.rs:1: "), "{found:?}");
    }
    let fine = "use super::types::Position; use self::log::Log; mod a { use super::log::Log; } use engine::Log;";
    assert_eq!(
        arrows(&Source::parse("src/storage.rs", &["storage"], fine)),
        Vec::<String>::new()
    );
}

#[test]
fn a_part_of_the_engine_that_uses_a_later_one_is_seen() {
    let found =
        |module, text| arrows(&Source::parse("src/engine/x.rs", &["engine", module], text)).len();
    assert_eq!(found("log", "use super::ingest::Ingest;"), 1);
    assert_eq!(found("log", "use crate::engine::upkeep;"), 1);
    assert_eq!(found("ingest", "use super::log::Log; use super::Error;"), 0);
}

/// Collects what is unfinished, switched off, or excepted without a reason.
#[derive(Default)]
struct Shortcuts {
    found: Vec<(usize, String)>,
}

impl<'ast> Visit<'ast> for Shortcuts {
    fn visit_attribute(&mut self, attr: &'ast syn::Attribute) {
        if let Some(name) = attr.path().get_ident().map(ToString::to_string) {
            let reason = matches!(&attr.meta, syn::Meta::List(list) if list.tokens.to_string().contains("reason ="));
            if name == "ignore" || (["allow", "expect"].contains(&name.as_str()) && !reason) {
                self.found
                    .push((attr.pound_token.spans[0].start().line, format!("#[{name}]")));
            }
        }
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        if let Some(last) = mac.path.segments.last()
            && ["todo", "unimplemented"]
                .iter()
                .any(|name| last.ident == name)
        {
            self.found
                .push((last.ident.span().start().line, format!("{}!", last.ident)));
        }
    }
}

/// The arrows of a file that neither the map nor the order of the engine's parts has.
/// The names that `lib.rs` shows at the root, and the module that each comes from.
fn shown_at_the_root() -> BTreeMap<String, String> {
    let library = Source::read(&root().join("src/lib.rs"));
    let paths = library.uses().into_iter();
    let ends = paths.filter_map(|used| {
        let path = used.outside()?;
        Some((path.last()?.clone(), path.first()?.clone()))
    });
    ends.collect()
}

fn arrows(source: &Source) -> Vec<String> {
    let Some((top, allowed)) = ARROWS.iter().find(|(module, _)| *module == source.top()) else {
        return Vec::new();
    };
    let rank = |module: &[String]| {
        ENGINE_ORDER
            .iter()
            .position(|part| module.get(1).is_some_and(|name| name == part))
    };
    let shown = shown_at_the_root();
    let mut found = Vec::new();
    for used in source.uses() {
        let Some(target) = used.inside() else {
            continue;
        };
        let Some(to) = target.first() else { continue };
        let to = shown.get(to).unwrap_or(to);
        let place = format!("{}:{}", source.name, used.line);
        if to != top && !allowed.contains(&to.as_str()) {
            found.push(format!("{place}: `{top}` uses `{to}`"));
        } else if to == "engine"
            && *top == "engine"
            && let (Some(from), Some(to)) = (rank(&source.module), rank(&target))
            && to > from
        {
            found.push(format!(
                "{place}: `engine::{}` uses the later `{}`",
                ENGINE_ORDER[from], ENGINE_ORDER[to]
            ));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// What `rule` has to say about the paths of the files below `directory`.
fn told(directory: &str, rule: impl Fn(&Source, &Use) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(directory) {
        for used in source.uses() {
            if let Some(what) = rule(&source, &used) {
                found.push(format!("{}:{}: {what}", source.name, used.line));
            }
        }
    }
    found
}

fn report(rule: &str, found: impl IntoIterator<Item = String>) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "{rule}:\n  {}\n", found.join("\n  "));
}

fn begins(path: &[String], prefix: &[&str]) -> bool {
    path.len() >= prefix.len() && path.iter().zip(prefix).all(|(a, b)| a == b)
}

fn everything() -> Vec<Source> {
    let mut all: Vec<_> = ["src", "tests", "benches"]
        .iter()
        .flat_map(|directory| sources(directory))
        .collect();
    all.push(Source::read(&root().join("build.rs")));
    all
}

fn manifest() -> String {
    fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is readable")
}

/// The dependency tables of a manifest, each with its keys and their lines.
fn dependency_tables(manifest: &str) -> Vec<(String, Vec<(usize, String)>)> {
    let mut tables: Vec<(String, Vec<(usize, String)>)> = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        if let Some(heading) = line.strip_prefix('[') {
            tables.push((heading.trim_end_matches(']').to_owned(), Vec::new()));
        } else if let Some((key, _)) = line.split_once('=')
            && key.starts_with(|c: char| c.is_ascii_alphabetic())
            && let Some((_, rows)) = tables.last_mut()
        {
            rows.push((index + 1, key.trim().to_owned()));
        }
    }
    tables.retain(|(table, _)| table.ends_with("dependencies"));
    tables
}

/// The files that git knows; none outside of a repository.
fn tracked_files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output();
    match listed {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_terminator('\0')
            .map(ToOwned::to_owned)
            .collect(),
        _ => {
            println!("skipped: this is not a git repository");
            Vec::new()
        }
    }
}
