//! A text as statements: they end with a `;` that stands in no text, name or comment.

/// The statements of a text, without the `;`; what is behind the last one is one too, unless it is empty.
pub(super) fn split(text: &str) -> Vec<&str> {
    let (mut statements, mut start) = (Vec::new(), 0);
    let mut reader = Reader::default();
    for (at, c) in text.char_indices() {
        if reader.read(c) == Seen::End {
            statements.push(&text[start..at]);
            start = at + 1;
        }
    }
    statements.push(&text[start..]);
    statements.retain(|statement| !is_blank(statement));
    statements
}

/// Whether a text ends where a statement does: nothing but blanks and comments stand behind the last `;`.
pub(super) fn is_complete(text: &str) -> bool {
    let mut reader = Reader::default();
    let mut is_open = false;
    for c in text.chars() {
        match reader.read(c) {
            Seen::Text => is_open = true,
            Seen::End => is_open = false,
            Seen::Nothing => {}
        }
    }
    !is_open && reader.is_outside()
}

fn is_blank(statement: &str) -> bool {
    let mut reader = Reader::default();
    !statement.chars().any(|c| reader.read(c) == Seen::Text)
}

/// What a character is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// A part of a statement.
    Text,
    /// A blank, or a part of a comment.
    Nothing,
    /// The end of a statement.
    End,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    /// In a text or name, up to this quote. One that is doubled ends it and begins another: nothing stands between.
    Quoted(char),
    LineComment,
    /// Nested so deep.
    BlockComment(u32),
}

#[derive(Debug, Default)]
struct Reader {
    place: Place,
    /// The character before, where two belong together.
    before: char,
}

impl Reader {
    fn is_outside(&self) -> bool {
        matches!(self.place, Place::Outside | Place::LineComment)
    }

    fn read(&mut self, c: char) -> Seen {
        let before = std::mem::replace(&mut self.before, c);
        match self.place {
            Place::Quoted(quote) => {
                if c == quote {
                    self.place = Place::Outside;
                }
                Seen::Text
            }
            Place::LineComment => {
                if c == '\n' {
                    self.place = Place::Outside;
                }
                Seen::Nothing
            }
            Place::BlockComment(depth) => {
                let depth = match (before, c) {
                    ('*', '/') => depth - 1,
                    ('/', '*') => depth + 1,
                    _ => return Seen::Nothing,
                };
                // A `/` or `*` belongs to one pair only.
                self.before = ' ';
                self.place = match depth {
                    0 => Place::Outside,
                    depth => Place::BlockComment(depth),
                };
                Seen::Nothing
            }
            Place::Outside => match (before, c) {
                ('-', '-') => {
                    self.place = Place::LineComment;
                    Seen::Nothing
                }
                ('/', '*') => {
                    self.before = ' ';
                    self.place = Place::BlockComment(1);
                    Seen::Nothing
                }
                (_, '\'' | '"') => {
                    self.place = Place::Quoted(c);
                    Seen::Text
                }
                (_, ';') => Seen::End,
                // They may begin a comment.
                (_, '-' | '/') => Seen::Nothing,
                _ if c.is_whitespace() => Seen::Nothing,
                _ => Seen::Text,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_outside_of_texts_names_and_comments() {
        assert_eq!(split("select 1; select 2"), ["select 1", " select 2"]);
        for one in [
            "select ';' || 'it''s;'",
            "select \"a;b\"",
            "select 1 -- not; here",
            "select /* not; /* here; */ either; */ 1",
        ] {
            assert_eq!(split(one), [one], "{one}");
            assert!(!is_complete(one), "{one}");
            assert!(is_complete(&format!("{one}\n;")), "{one}");
        }
        assert_eq!(split("; -- nothing\n ; /* here */"), [""; 0]);
    }

    #[test]
    fn a_text_is_complete_where_its_last_statement_ends() {
        for complete in ["", "select 1;", "select 1; -- done", "select ';';\n\n"] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in [
            "select 1",
            "select 1; select",
            "select 1 /* ;",
            "select ';",
            "select 1; /* ",
        ] {
            assert!(!is_complete(open), "{open}");
        }
    }
}
