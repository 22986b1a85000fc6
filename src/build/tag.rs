//! The content tag: what an image is built from, as 40 hexadecimal digits.
//!
//! It is the start of SHA-256("v1" ‖ entries ‖ Dockerfile ‖ target ‖ build args ‖ platform ‖ bases), where *entries* is the digest of the
//! context's sorted (path, mode, blob id) after `.dockerignore`, and *bases* are the names and tags of images of the same repository. Every field
//! is preceded by its length, every list by its number, and what may be absent by whether it is there, so that no two inputs read the
//! same. The commit, branch and repository are not in it: the same content has the same tag everywhere.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::model::CommitId;

/// Goes up when the rule changes: all tags do, then.
const VERSION: &str = "v1";
/// 160 bits, against intent and not only accident: who writes both contents, a harmless one to be reviewed and another to be built, finds two with the
/// same tag after 2^80 tries. Of 64 bits it would be 2^32, an afternoon.
const DIGITS: usize = 40;
/// Those of the tags that plumb once gave. Nothing is built as one of these any more.
const FORMER_DIGITS: usize = 16;

/// What an entry of a context is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link; its blob is the target.
    Symlink,
}

impl Mode {
    /// git's number for it.
    pub const fn bits(self) -> u32 {
        match self {
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Symlink => 0o120_000,
        }
    }
}

/// One file or link of a context.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Relative to the context.
    pub path: String,
    /// What it is.
    pub mode: Mode,
    /// The blob.
    pub id: CommitId,
}

/// The digest of a context's entries: all of it that decides an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entries([u8; 32]);

impl Entries {
    /// The digest of these entries, in whatever order they come.
    pub fn of(entries: &[Entry]) -> Self {
        let mut sorted: Vec<&Entry> = entries.iter().collect();
        sorted.sort_unstable();
        let mut fields = Fields::new(VERSION);
        fields.number(sorted.len());
        for Entry { path, mode, id } in sorted {
            fields.add(path.as_bytes());
            fields.add(&mode.bits().to_be_bytes());
            fields.add(id.as_bytes());
        }
        Self(fields.0.finalize().into())
    }
}

/// All that decides an image.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The context.
    pub entries: Entries,
    /// The Dockerfile's blob: it decides even where `.dockerignore` leaves it out of the context.
    pub dockerfile: CommitId,
    /// The stage that is built.
    pub target: Option<&'a str>,
    /// Build arguments.
    pub args: &'a BTreeMap<String, String>,
    /// The platform it is built for, if `plumb.yaml` names one.
    pub platform: Option<&'a str>,
    /// The images of the same repository that it is based on, with their tags.
    pub bases: BTreeMap<&'a str, &'a str>,
}

/// The tag of an image.
pub fn tag(inputs: &Inputs<'_>) -> String {
    let mut fields = Fields::new(VERSION);
    fields.add(&inputs.entries.0);
    fields.add(inputs.dockerfile.as_bytes());
    fields.option(inputs.target);
    fields.number(inputs.args.len());
    for (name, value) in inputs.args {
        fields.add(name.as_bytes());
        fields.add(value.as_bytes());
    }
    fields.option(inputs.platform);
    fields.number(inputs.bases.len());
    for (name, tag) in &inputs.bases {
        fields.add(name.as_bytes());
        fields.add(tag.as_bytes());
    }
    let digest = fields.0.finalize();
    digest.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this may be a tag that [`tag`] gives.
pub fn is_tag(text: &str) -> bool {
    has_digits(text, DIGITS)
}

/// Whether this may be a tag that [`tag`] gave at some time.
pub fn was_tag(text: &str) -> bool {
    is_tag(text) || has_digits(text, FORMER_DIGITS)
}

fn has_digits(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Bytes on their way into a digest.
struct Fields(Sha256);

impl Fields {
    fn new(version: &str) -> Self {
        let mut fields = Self(Sha256::new());
        fields.add(version.as_bytes());
        fields
    }

    fn number(&mut self, number: usize) {
        self.0.update((number as u64).to_be_bytes());
    }

    fn add(&mut self, field: &[u8]) {
        self.number(field.len());
        self.0.update(field);
    }

    fn option(&mut self, field: Option<&str>) {
        self.number(usize::from(field.is_some()));
        field.into_iter().for_each(|field| self.add(field.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An owned [`Inputs`], compared as a whole.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Case {
        entries: BTreeMap<String, (Mode, u8)>,
        dockerfile: u8,
        target: Option<String>,
        args: BTreeMap<String, String>,
        platform: Option<String>,
        bases: BTreeMap<String, String>,
    }

    impl Case {
        fn tag(&self) -> String {
            let id = |byte: u8| CommitId::new([byte; 20]);
            let entry =
                |(path, (mode, blob)): (&String, &(Mode, u8))| Entry { path: path.clone(), mode: *mode, id: id(*blob) };
            let mut entries: Vec<Entry> = self.entries.iter().map(entry).collect();
            let sorted = Entries::of(&entries);
            entries.reverse();
            assert_eq!(Entries::of(&entries), sorted, "the order in which entries are found is nothing");
            tag(&Inputs {
                entries: sorted,
                dockerfile: id(self.dockerfile),
                target: self.target.as_deref(),
                args: &self.args,
                platform: self.platform.as_deref(),
                bases: self.bases.iter().map(|(name, tag)| (&**name, &**tag)).collect(),
            })
        }
    }

    /// Short words over few letters, so that fields that run into each other are likely.
    fn case() -> impl Strategy<Value = Case> {
        let word = || "[abA=]{0,3}";
        let mode = prop_oneof![Just(Mode::File), Just(Mode::Executable), Just(Mode::Symlink)];
        let entries = prop::collection::btree_map("[ab/A]{1,3}", (mode, 0..3_u8), 0..4);
        let map = || prop::collection::btree_map(word(), word(), 0..3);
        let optional = || prop::option::of(word());
        (entries, 0..3_u8, optional(), map(), optional(), map()).prop_map(
            |(entries, dockerfile, target, args, platform, bases)| Case {
                entries,
                dockerfile,
                target,
                args,
                platform,
                bases,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn two_inputs_have_the_same_tag_only_if_they_are_the_same(one in case(), other in case()) {
            prop_assert_eq!(one.tag() == other.tag(), one == other);
            prop_assert!(is_tag(&one.tag()), "{}", one.tag());
        }

        #[test]
        fn every_field_decides(one in case(), which in 0..7) {
            let mut other = one.clone();
            match which {
                0 => _ = other.entries.insert("new".to_owned(), (Mode::File, 0)),
                1 => other.dockerfile += 1,
                2 => other.target = match &one.target { None => Some(String::new()), Some(_) => None },
                3 => _ = other.args.insert("new".to_owned(), String::new()),
                4 => other.platform = Some(one.platform.clone().unwrap_or_default() + "x"),
                5 => _ = other.bases.insert("new".to_owned(), "t".to_owned()),
                _ => std::mem::swap(&mut other.args, &mut other.bases),
            }
            prop_assert_eq!(one.tag() == other.tag(), one == other);
        }
    }

    #[test]
    fn two_contents_with_the_same_tag_can_not_be_looked_for() {
        let tag = |number: u8| {
            let (args, bases) = (BTreeMap::new(), BTreeMap::new());
            let (entries, dockerfile) = (Entries::of(&[]), CommitId::new([number; 20]));
            super::tag(&Inputs { entries, dockerfile, target: None, args: &args, platform: None, bases })
        };
        let tags: Vec<String> = (0..=255).map(tag).collect();
        assert!(tags.iter().all(|tag| tag.len() * 4 >= 160), "half of the bits are what a search costs");
        for place in 0..DIGITS {
            let digits: std::collections::BTreeSet<_> = tags.iter().map(|tag| tag.as_bytes()[place]).collect();
            assert_eq!(digits.len(), 16, "digit {place} is one of the digest's");
        }
    }

    #[test]
    fn the_rule_is_the_same_for_ever() {
        let entries = vec![Entry { path: "a".to_owned(), mode: Mode::File, id: CommitId::new([1; 20]) }];
        let args = BTreeMap::from([("K".to_owned(), "v".to_owned())]);
        let bases = BTreeMap::from([("base", "0123456789abcdef0123456789abcdef01234567")]);
        let entries = Entries::of(&entries);
        let dockerfile = CommitId::new([2; 20]);
        let inputs = Inputs { entries, dockerfile, target: None, args: &args, platform: None, bases };
        assert_eq!(
            tag(&inputs),
            "0a53193874c98aa03eafecc46b407a2a75cbe7f2",
            "an upgrade of plumb must rebuild nothing"
        );
    }
}
