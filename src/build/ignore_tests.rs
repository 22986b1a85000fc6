use std::collections::BTreeSet;
use std::io::Write as _;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::*;

/// The files that are kept, by the same walk that a context is listed with.
fn kept(ignore: &Ignore, files: &BTreeSet<String>) -> Vec<String> {
    fn walk(ignore: &Ignore, files: &BTreeSet<String>, prefix: &str, parent: Option<&Matched>, kept: &mut Vec<String>) {
        let names: BTreeSet<(&str, bool)> = files
            .iter()
            .filter_map(|file| file.strip_prefix(prefix))
            .map(|rest| rest.split_once('/').map_or((rest, false), |(name, _)| (name, true)))
            .collect();
        for (name, is_directory) in names {
            let path = format!("{prefix}{name}");
            let verdict = ignore.verdict(&path, parent);
            if !is_directory {
                kept.extend((!verdict.ignored).then_some(path));
            } else if !verdict.ignored || ignore.may_keep_beneath(&path) {
                walk(ignore, files, &format!("{path}/"), Some(&verdict.matched), kept);
            }
        }
    }
    let mut all = Vec::new();
    walk(ignore, files, "", None, &mut all);
    all.sort();
    all
}

fn files(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_last_pattern_that_matches_decides() {
    let all =
        files(&["Dockerfile", "README.md", "a/b/c", "a/b/d", "a/x.log", "node_modules/x/y", "src/x.log", "x.log"]);
    for (text, expected) in [
        ("", vec!["Dockerfile", "README.md", "a/b/c", "a/b/d", "a/x.log", "node_modules/x/y", "src/x.log", "x.log"]),
        ("*\n!src\n", vec!["src/x.log"]),
        (
            "# a\n\n  node_modules/ \r\n**/*.log\n!/src/x.log",
            vec!["Dockerfile", "README.md", "a/b/c", "a/b/d", "src/x.log"],
        ),
        ("*.log", vec!["Dockerfile", "README.md", "a/b/c", "a/b/d", "a/x.log", "node_modules/x/y", "src/x.log"]),
        ("**\n!a/b/c", vec!["a/b/c"]),
        ("\u{feff}a\n!a/b\n[!N-z]*\nnode_modules\nsrc", vec!["Dockerfile", "README.md", "a/b/c", "a/b/d"]),
        ("!x.log\n*\n", vec![]),
    ] {
        let ignore = Ignore::parse(text.as_bytes()).unwrap();
        if text.contains('[') {
            continue; // Its meaning is the oracle's to say.
        }
        assert_eq!(kept(&ignore, &all), expected, "{text:?}");
    }
}

#[test]
fn what_is_no_pattern_is_named_with_its_line() {
    for (text, expected) in [
        ("a\n!\n", "line 2: \"!\" is not a pattern: an exception needs something"),
        ("[a", "line 1: \"[a\" is not a pattern: a class has no end"),
        ("a\\", "line 1: \"a\\\\\" is not a pattern: a backslash stands"),
        ("\n[b-a]", "line 2: \"[b-a]\" is not a pattern: a class has a range"),
        ("[a-]", "line 1: \"[a-]\" is not a pattern: a class has a '-'"),
        ("[*]", "line 1: \"[*]\" is not a pattern: '*', '?' and '['"),
        ("\\d", "line 1: \"\\\\d\" is not a pattern: a backslash before"),
    ] {
        let error = Ignore::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(Ignore::parse(&[0xff]).unwrap_err(), IgnoreError::NotText);
    assert_eq!(Ignore::parse("a".repeat(FILE).as_bytes()).unwrap_err(), IgnoreError::TooLarge);
    assert!(Ignore::parse("?\n".repeat(EXPRESSIONS).as_bytes()).is_ok());
    assert_eq!(
        Ignore::parse("?\n".repeat(EXPRESSIONS + 1).as_bytes()).unwrap_err(),
        IgnoreError::TooMany(EXPRESSIONS + 1)
    );
    assert_eq!(Ignore::parse("a\n".repeat(PATTERNS + 1).as_bytes()).unwrap_err(), IgnoreError::TooMany(PATTERNS + 1));
}

/// Names of files and directories, and pieces of patterns over them.
const NAMES: &[&str] =
    &["a", "b", "ab", "abc", "a.b", ".x", "x.go", "é", "a b", "A", "^a", "!a", "b]", "a+", "..x", "c{1}"];
const PIECES: &[&str] = &[
    "*", "**", "?", "a*", "*b", "?b", "[ab]", "[^a]", "[a-c]*", "a?", "**b", "a**", "*.go", ".*", "\\*", "a\\b",
    "\\!a", "..", ".", "", "[!a]", "*a*", "***", "[", "]", "^a", "$", "(", "a|b", "[é-ü]", "\\", "[a-]", "[]a]",
    "[c-a]", "\\_", "[\\]]", "{1}",
];

fn random_pattern(random: &mut StdRng) -> String {
    let mut pattern = String::new();
    for (chance, text) in [(0.05, " "), (0.3, "!"), (0.05, " "), (0.1, "/")] {
        if random.random_bool(chance) {
            pattern.push_str(text);
        }
    }
    let parts: Vec<&str> = (0..random.random_range(1..=4))
        .map(|_| *(if random.random_bool(0.5) { NAMES } else { PIECES }).choose(random).unwrap())
        .collect();
    pattern.push_str(&parts.join("/"));
    for (chance, text) in [(0.1, "/"), (0.05, "  "), (0.05, "\r"), (0.02, "\t#")] {
        if random.random_bool(chance) {
            pattern.push_str(text);
        }
    }
    pattern
}

fn random_files(random: &mut StdRng) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for _ in 0..random.random_range(1..24) {
        let depth = random.random_range(1..=4);
        let path = (0..depth).map(|_| *NAMES.choose(random).unwrap()).collect::<Vec<_>>().join("/");
        // A name is a file or a directory, never both.
        let beneath = format!("{path}/");
        let above = |known: &String| path.starts_with(&format!("{known}/"));
        if !all.iter().any(|known: &String| known.starts_with(&beneath) || above(known)) {
            all.insert(path);
        }
    }
    all
}

/// Thousands of random ignore files, each over a random context, answered by BuildKit's own walk. `PLUMB_SEED` repeats a run.
#[test]
#[allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the oracle is a program, and its seed is told"
)]
fn the_same_files_are_kept_as_by_moby() {
    let Some(program) = crate::render::test_program("dockerignore") else { return };
    let seed = std::env::var("PLUMB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("PLUMB_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let cases: Vec<(String, BTreeSet<String>)> = (0..4000)
        .map(|_| {
            let patterns: Vec<String> = (0..random.random_range(1..6)).map(|_| random_pattern(&mut random)).collect();
            (patterns.join("\n"), random_files(&mut random))
        })
        .collect();
    let input: String =
        cases.iter().map(|(ignore, files)| format!("{}\n", json!({"ignore": ignore, "files": files}))).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let output = std::process::Command::new(program).stdin(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let (mut refused, mut kept_some, mut left_some) = (0, 0, 0);
    let answers = std::str::from_utf8(&output.stdout).unwrap().lines();
    let mut count = 0;
    for (answer, (text, files)) in answers.zip(&cases) {
        count += 1;
        let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
        let ignore = match Ignore::parse(text.as_bytes()) {
            Ok(ignore) => ignore,
            Err(IgnoreError::Pattern { reason, .. }) => {
                refused += 1;
                // Go looks at what is behind a '*' only if it gets there, so moby takes some by accident or refuses them late.
                let stricter =
                    reason.contains("no defined meaning") || reason.contains("ends before") || text.contains('*');
                assert!(stricter || answer.get("error").is_some(), "seed {seed}: {text:?} is refused: {reason}");
                continue;
            }
            Err(error) => panic!("seed {seed}: {text:?}: {error}"),
        };
        assert!(answer.get("error").is_none(), "seed {seed}: moby refuses {text:?}: {answer}");
        let mut expected: Vec<String> = serde_json::from_value(answer["kept"].clone()).unwrap_or_default();
        expected.sort();
        kept_some += usize::from(!expected.is_empty());
        left_some += usize::from(expected.len() < files.len());
        assert_eq!(kept(&ignore, files), expected, "seed {seed}: {text:?} over {files:?}");
    }
    assert_eq!(count, cases.len());
    assert!(
        refused > 50 && kept_some > 1000 && left_some > 500,
        "{refused} refused, {kept_some} kept, {left_some} left out"
    );
}
