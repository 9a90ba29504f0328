//! Reads Rust files and the paths that stand in them.
//!
//! Paths inside macros and attributes are found by their tokens, since nothing parses those. Names that an earlier
//! `use` brought in are not resolved: that `use` was seen already.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a directory, which need not exist.
pub(crate) fn sources(directory: &str) -> Vec<Source> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("directories are readable").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|path| Source::read(path)).collect()
}

/// A Rust file: where it stands, what module it is, what it says.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) module: Vec<String>,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
}

impl Source {
    pub(crate) fn read(path: &Path) -> Self {
        let name = path
            .strip_prefix(root())
            .expect("below the root")
            .to_string_lossy()
            .into_owned();
        let mut module: Vec<_> = Path::new(&name)
            .with_extension("")
            .iter()
            .skip(1)
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if module
            .last()
            .is_some_and(|last| last == "mod" || last == "lib")
        {
            module.pop();
        }
        let module: Vec<_> = module.iter().map(String::as_str).collect();
        let text = fs::read_to_string(path).expect("sources are readable");
        Self::parse(&name, &module, &text)
    }

    pub(crate) fn parse(name: &str, module: &[&str], text: &str) -> Self {
        Self {
            name: name.to_owned(),
            module: module.iter().map(ToString::to_string).collect(),
            text: text.to_owned(),
            syntax: syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}")),
        }
    }

    /// The module below the crate's root that this file belongs to; empty for `lib.rs`.
    pub(crate) fn top(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }

    pub(crate) fn is(&self, module: &str) -> bool {
        self.module.join("::") == module
    }

    pub(crate) fn uses(&self) -> Vec<Use> {
        let mut uses = Uses {
            module: self.module.clone(),
            test: self.module.iter().any(|part| part == "tests"),
            found: Vec::new(),
        };
        uses.visit_file(&self.syntax);
        uses.found
    }
}

/// A path as it stands in the code, and where.
pub(crate) struct Use {
    pub(crate) line: usize,
    module: Vec<String>,
    pub(crate) test: bool,
    segments: Vec<String>,
}

impl Use {
    /// The path from the crate's root, if it leads through the crate.
    pub(crate) fn inside(&self) -> Option<Vec<String>> {
        let (first, rest) = self.segments.split_first()?;
        let mut target = match first.as_str() {
            "crate" | "annals" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        if first == "super" {
            target.pop();
        }
        for segment in rest {
            match segment.as_str() {
                "super" => drop(target.pop()),
                "self" => {}
                name => target.push(name.to_owned()),
            }
        }
        Some(target)
    }

    /// The path as it stands, if it may lead to another crate.
    pub(crate) fn outside(&self) -> Option<&[String]> {
        self.inside().is_none().then_some(&self.segments)
    }
}

/// Collects the paths of a file.
struct Uses {
    module: Vec<String>,
    test: bool,
    found: Vec<Use>,
}

impl Uses {
    fn push(&mut self, span: Span, segments: Vec<String>) {
        self.found.push(Use {
            line: span.start().line,
            module: self.module.clone(),
            test: self.test,
            segments,
        });
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.push(name.ident.span(), with(&name.ident)),
            syn::UseTree::Rename(rename) => self.push(rename.ident.span(), with(&rename.ident)),
            syn::UseTree::Glob(glob) => self.push(glob.star_token.spans[0], before.to_vec()),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree);
                }
            }
        }
    }

    /// Finds `a::b::c` among tokens that are not parsed.
    fn tokens(&mut self, tokens: &TokenStream) {
        let mut path: Vec<Ident> = Vec::new();
        let mut colons = 0;
        for token in tokens.clone() {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.flush(&mut path);
                    }
                    path.push(ident);
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.flush(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(&group.stream());
                    }
                }
            }
        }
        self.flush(&mut path);
    }

    fn flush(&mut self, path: &mut Vec<Ident>) {
        if let [first, _, ..] = path.as_slice() {
            self.push(first.span(), path.iter().map(ToString::to_string).collect());
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let test = self.test;
        self.test |= item.attrs.iter().any(|attr| {
            let list = attr.meta.require_list();
            attr.path().is_ident("cfg") && list.is_ok_and(|list| list.tokens.to_string() == "test")
        });
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
        self.test = test;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first().filter(|_| path.segments.len() > 1) {
            let segments = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string());
            self.push(first.ident.span(), segments.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.tokens(&mac.tokens);
        visit::visit_macro(self, mac);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(&list.tokens);
        visit::visit_meta_list(self, list);
    }
}
