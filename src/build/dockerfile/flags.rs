//! What the flags of an instruction are from: `--from=` and the `from=` of a `--mount=`.
//!
//! Read as BuildKit does: quotes and escapes are dropped first (`extractBuilderFlags`), then a mount is a line of CSV (`csvvalue`) with keys in
//! whatever case.

use std::ops::Range;

/// A byte, and where it stands in the line.
type Letter = (usize, u8);

/// An image or a stage.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct From {
    /// Its name; of a mount that can't be read, all of it.
    pub name: String,
    /// Where the name stands in the line, if it stands there in one piece.
    pub place: Option<Range<usize>>,
}

/// What the flags at the beginning of a line are from.
pub(super) fn froms(line: &str, escape: char) -> Vec<From> {
    let from = |flag: Vec<Letter>| {
        let (key, value) = key_and_value(&flag)?;
        match &*key {
            "--from" => Some(From { name: text(value), place: place(value) }),
            "--mount" => match fields(value) {
                Some(fields) => {
                    let mut fields = fields.iter().filter_map(|field| key_and_value(field));
                    // The last one counts.
                    let (_, value) = fields.rfind(|(key, _)| key.eq_ignore_ascii_case("from"))?;
                    Some(From { name: text(value), place: place(value) })
                }
                None => Some(From { name: text(value), place: None }),
            },
            _ => None,
        }
    };
    flags(line, escape).into_iter().filter_map(from).collect()
}

/// The flags without quotes and escapes, to the first word that is none.
fn flags(line: &str, escape: char) -> Vec<Vec<Letter>> {
    let (mut letters, mut flags) = (line.bytes().enumerate().peekable(), Vec::new());
    loop {
        while letters.next_if(|(_, byte)| is_space(*byte)).is_some() {}
        let rest = letters.peek().and_then(|(at, _)| line.as_bytes().get(*at..)).unwrap_or_default();
        if !rest.starts_with(b"--") {
            return flags;
        }
        let (mut flag, mut quote) = (Vec::new(), None);
        while let Some((at, byte)) = letters.next_if(|(_, byte)| quote.is_some() || !is_space(*byte)) {
            match (byte, quote) {
                (b'"' | b'\'', None) => quote = Some(byte),
                (byte, Some(open)) if byte == open => quote = None,
                (byte, _) if char::from(byte) == escape => flag.extend(letters.next()),
                (byte, _) => flag.push((at, byte)),
            }
        }
        if text(&flag) == "--" {
            return flags;
        }
        flags.push(flag);
    }
}

/// As Go has it of a byte alone.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ' | 0x85 | 0xa0)
}

/// The fields of one line of CSV; `None`: it can't be read.
fn fields(line: &[Letter]) -> Option<Vec<Vec<Letter>>> {
    let (mut letters, mut fields) = (line.iter().copied().peekable(), Vec::new());
    loop {
        let mut field = Vec::new();
        if letters.next_if(|(_, byte)| *byte == b'"').is_some() {
            loop {
                let letter = letters.next()?;
                // Two of them are one that stands for itself.
                if letter.1 == b'"' && letters.next_if(|(_, byte)| *byte == b'"').is_none() {
                    break;
                }
                field.push(letter);
            }
        } else {
            while let Some(letter) = letters.next_if(|(_, byte)| *byte != b',') {
                field.push(letter);
            }
            if field.iter().any(|(_, byte)| *byte == b'"') {
                return None;
            }
        }
        fields.push(field);
        match letters.next() {
            None => return Some(fields),
            Some((_, b',')) => {}
            Some(_) => return None,
        }
    }
}

fn key_and_value(letters: &[Letter]) -> Option<(String, &[Letter])> {
    let end = letters.iter().position(|(_, byte)| *byte == b'=')?;
    Some((text(letters.get(..end)?), letters.get(end + 1..)?))
}

fn text(letters: &[Letter]) -> String {
    let bytes: Vec<u8> = letters.iter().map(|(_, byte)| *byte).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn place(letters: &[Letter]) -> Option<Range<usize>> {
    let (first, last) = (letters.first()?.0, letters.last()?.0);
    (last - first + 1 == letters.len()).then_some(first..last + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(line: &str) -> Vec<String> {
        froms(line, '\\').into_iter().map(|from| from.name).collect()
    }

    #[test]
    fn quotes_are_dropped_and_keys_are_in_whatever_case() {
        for line in [
            "--from=web a b",
            "--from=\"web\" a b",
            "--from='web' a b",
            "--chown=\"1 1\" --from=web a b",
            "--chown=\" --from=no\" --from=web a b",
            "--chown=\\\" --from=web a b",
            "--chown='\\'' --from=web a b",
            "--f\"rom=web\" a",
            "--from=\\web a",
            "--from=web",
            "--from=\"web",
            "--mount=type=bind,From=web make",
            "--mount=FROM=web,type=bind make",
            "--mount=\"type=bind,from=web\" make",
            "--mount=type=bind,\"from=web\" make",
            "--mount='type=bind,\"from=web\"' make",
            "--mount='\"from=web\",type=bind' make",
            "--mount='\"target=/a\"\",from=b\",from=web' make",
            "--mount=from=no,from=web make",
        ] {
            assert_eq!(names(line), ["web"], "{line}");
            for From { name, place } in froms(line, '\\') {
                assert!(place.is_none_or(|place| line[place] == name), "{line}");
            }
        }
        assert_eq!(names("--from=a\u{a0}--from=web x"), ["a\u{fffd}", "web"]);
    }

    #[test]
    fn what_is_no_flag_is_passed_over() {
        for line in ["a --from=web", "-- --from=web", "\"--from=web\"", "--From=web a", "--froms=web", "--mount=from a"]
        {
            assert!(names(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn what_is_in_pieces_or_no_csv_has_no_place() {
        for (line, name) in [
            ("--from=w\"eb\" a", "web"),
            ("--mount=fr'om=w'eb a", "web"),
            ("--mount='from=\"web\"' a", "from=\"web\""),
            ("--mount='\"from=web' a", "\"from=web"),
            ("--mount='\"from=web\"x' a", "\"from=web\"x"),
        ] {
            assert_eq!(froms(line, '\\'), [From { name: name.to_owned(), place: None }], "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_field_is_what_was_quoted(values in prop::collection::vec("[a-z,=\"]{0,6}", 1..5)) {
            let quoted: Vec<String> = values.iter().map(|value| format!("\"{}\"", value.replace('"', "\"\""))).collect();
            let letters: Vec<Letter> = quoted.join(",").bytes().enumerate().collect();
            let read: Vec<String> = fields(&letters).unwrap().iter().map(|field| text(field)).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn a_name_stands_where_its_place_says(line in "(--from=|--mount=|from=|[a-zé,\"'\\\\ ]){0,12}") {
            for From { name, place } in froms(&line, '\\') {
                let stands = |place| text(&line.bytes().enumerate().collect::<Vec<_>>()[place]);
                prop_assert_eq!(place.map_or(name.clone(), stands), name);
            }
        }
    }
}
