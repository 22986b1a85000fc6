//! Tables of good and bad files, and the promise that no bytes make the reader panic.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn yaml(text: &str) -> Result<Vec<Value>, String> {
    documents(text.as_bytes(), Notation::Yaml).map(|all| all.into_iter().map(|document| document.value).collect())
}

fn documents(bytes: &[u8], notation: Notation) -> Result<Vec<Document>, String> {
    read(bytes, notation, &mut Budget::default()).map_err(|error| format!("{} {error}", error.at))
}

#[test]
fn good_files_mean_what_they_say() {
    for (text, values) in [
        ("", vec![]),
        ("# only a comment\n", vec![]),
        ("---\n---\n# nothing\n---\n", vec![]),
        ("a: 1\n", vec![json!({"a": 1})]),
        ("\u{feff}a: 1\n", vec![json!({"a": 1})]),
        ("a: |\r\n  x\r\n  y\r\nb: 2\r\n", vec![json!({"a": "x\ny\n", "b": 2})]),
        ("--- # first\na: 1\n---\nb: 2\n...\n---\n", vec![json!({"a": 1}), json!({"b": 2})]),
        ("%YAML 1.1\n---\na: 1\n", vec![json!({"a": 1})]),
        (
            "a: yes\nb: 'yes'\nc: \"0777\"\nd: 0777\ne: !!str 12\n",
            vec![json!({"a": true, "b": "yes", "c": "0777", "d": 511, "e": "12"})],
        ),
        ("x: &x {p: 1, q: 2}\nz:\n  <<: *x\n  q: 3\n", vec![json!({"x": {"p": 1, "q": 2}, "z": {"p": 1, "q": 3}})]),
        ("z: {<<: [{p: 1}, {p: 2, q: 2}]}\n", vec![json!({"z": {"p": 1, "q": 2}})]),
        ("a: >-\n  folded\n  text\n", vec![json!({"a": "folded text"})]),
        ("a:\n- 1\n-\n- [2, {b: c}]\n", vec![json!({"a": [1, null, [2, {"b": "c"}]]})]),
        ("{\"a\":\t1,\n\t\"b\": [\"\\u00e9\"]}", vec![json!({"a": 1, "b": ["é"]})]),
        ("a: 'it''s'\nb: \"tab\\there\"\n", vec![json!({"a": "it's", "b": "tab\there"})]),
        ("a: x\ty\n", vec![json!({"a": "x\ty"})]),
    ] {
        assert_eq!(yaml(text), Ok(values), "{text:?}");
    }
}

#[test]
fn bad_files_are_refused_where_they_are_bad() {
    let deep = "[".repeat(400);
    let deep_block: String = (0..400).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    for (text, start, word) in [
        ("a: 1\nb: 2\na: 3\n", "3:1", "\"a\" stands twice"),
        ("a: {b: 1, b: 2}\n", "1:11", "\"b\" stands twice"),
        ("a: 1\n\"a\": 3\n", "2:1", "stands twice"),
        ("a:\n\tb: 1\n", "2:", "tab"),
        ("a: [1, 2\nb: 3\n", "2:", "not valid YAML"),
        ("a: b: c\n", "1:", "not valid YAML"),
        ("a: \"unfinished\n", "", "not valid YAML"),
        ("a: 1\n b: 2\n", "2:", "not valid YAML"),
        ("on: 1\n", "1:1", "a boolean; write it in quotes"),
        ("a:\n  8080: x\n", "2:3", "a number; write it in quotes"),
        ("? [a]\n: 1\n", "1:", "keys are text"),
        ("~: 1\n", "1:1", "empty (null)"),
        ("a: *b\n", "1:4", "not valid YAML"),
        ("a: &a [*a]\n", "1:8", "the very value it stands in"),
        ("a: &a {b: *a}\n", "1:11", "the very value it stands in"),
        ("<<: 5\n", "1:5", "merge key"),
        ("a: !Ref b\n", "1:", "the tag \"!Ref\""),
        ("a: !!binary aGk=\n", "1:", "the tag \"!!binary\""),
        ("a: !!set {b}\n", "1:", "the tag \"!!set\""),
        ("a: !!int x\n", "1:", "not of the type"),
        ("a: .inf\n", "1:4", "no form in JSON"),
        ("a: 1\nb: \0\n", "2:4", "NUL"),
        (&deep, "1:", "nest"),
        (&deep_block, "", "nest"),
        ("a: %b\n", "1:4", "not valid YAML"),
        ("a: @b\n", "1:4", "not valid YAML"),
        ("@#$%^&*", "1:", "not valid YAML"),
    ] {
        let error = yaml(text).unwrap_err();
        assert!(error.starts_with(start) && error.contains(word), "{text:.40?}: {error}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let error = documents(b"a: 1\nb: \xff\n", Notation::Yaml).unwrap_err();
    assert!(error.starts_with("2:4 not UTF-8"), "{error}");
    let utf16: Vec<u8> = "\u{feff}a: 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(documents(&utf16, Notation::Yaml).unwrap_err().contains("UTF-8"));
}

#[test]
fn no_error_shows_a_value() {
    for text in [
        "password: hunter2: x\n",
        "password: \"hunter2\n",
        "password: !x hunter2\n",
        "password: [hunter2\n",
        "password: 'hunter2' x\n",
        "- hunter2\npassword: hunter2\n",
        "password: &hunter2\n  - *hunter3\n",
        "hunter2",
    ] {
        if let Err(error) = yaml(text) {
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
        if let Err(error) = documents(format!("{{\"password\": \"hunter2\", {text}").as_bytes(), Notation::Json) {
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }
}

#[test]
fn a_bomb_ends_in_an_error_of_bounded_cost() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..30 {
        let list = vec![format!("*a{}", level - 1); 9].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    let error = yaml(&laughs).unwrap_err();
    assert!(error.contains("copied by aliases"), "{error}");

    let big = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 1000].join(","));
    assert!(yaml(&big).unwrap_err().contains("aliases copy"));
}

#[test]
fn limits_hold_over_all_files_of_a_render() {
    let limits = budget::Limits { bytes: 100, documents: 3, weight: 22, ..Default::default() };
    let budget = || Budget::new(limits);
    let read_with = |text: &str, budget: &mut Budget| {
        read(text.as_bytes(), Notation::Yaml, budget).map(|all| all.len()).map_err(|error| error.to_string())
    };
    let mut left = budget();
    assert_eq!(read_with("a: 1\n---\nb: 1\n", &mut left), Ok(2));
    assert_eq!(read_with("a: 1\n", &mut left), Ok(1));
    assert!(
        read_with("a: 1\n", &mut left)
            .unwrap_err()
            .contains("number of documents of this render exceeds the limit of 3")
    );
    let mut left = budget();
    assert!(read_with(&"#".repeat(60), &mut left).is_ok());
    assert!(read_with(&"#".repeat(60), &mut left).unwrap_err().contains("size of all files"));
    let wide = format!("[{}1]", "1,".repeat(30));
    assert!(read_with(&wide, &mut budget()).unwrap_err().contains("values in one file"));
    assert_eq!(read_with("[1,1,1,1,1,1,1,1,1,1]\n---\n[1,1,1,1,1,1,1,1,1,1]\n", &mut budget()), Ok(2));
    let third = read_with("[1,1,1,1,1,1,1,1,1,1]\n---\n[1,1,1,1,1,1,1,1,1,1]\n---\n1\n", &mut budget());
    assert!(third.unwrap_err().contains("values in one file"), "a file has one budget for all its documents");

    let huge = vec![b'#'; FILE_BYTES + 1];
    assert!(documents(&huge, Notation::Yaml).unwrap_err().contains("size of this file"));
}

#[test]
fn documents_know_their_line_and_number() {
    let found = documents(b"# head\n---\n# first\na: 1\n---\n---\n\nb: 2\n", Notation::Yaml).unwrap();
    let places: Vec<_> = found.iter().map(|document| (document.line, document.index)).collect();
    assert_eq!(places, [(4, 1), (8, 3)]);
    let found = documents(b"\n{\"a\": 1}\n\n{\"b\": 2}", Notation::Json).unwrap();
    let places: Vec<_> = found.iter().map(|document| (document.line, document.index)).collect();
    assert_eq!(places, [(2, 1), (4, 2)]);
    let limits = budget::Limits { documents: 2, ..Default::default() };
    let too_many = read("{\"ä\":\n1} 2\t{}".as_bytes(), Notation::Json, &mut Budget::new(limits)).unwrap_err();
    assert_eq!(too_many.at, Position::new(2, 6));
}

#[test]
fn a_long_stream_of_json_on_one_line_is_read_in_one_pass() {
    // Counting from the start for each of them would read 60 GB, for minutes.
    let stream = format!("{{\"a\":\"{}\"}} ", "x".repeat(300)).repeat(20_000);
    let found = documents(stream.as_bytes(), Notation::Json).unwrap();
    assert_eq!((found.len(), found[19_999].line, found[19_999].index), (20_000, 1, 20_000));
}

#[test]
fn json_is_as_strict() {
    let read = |text: &str| documents(text.as_bytes(), Notation::Json).map(|mut all| all.remove(0).value);
    assert_eq!(read("{\"a\": 1.0, \"b\": \"\\ud83d\\ude00\"}"), Ok(json!({"a": 1, "b": "😀"})));
    for (text, start, word) in [
        ("{\"a\": 1,\n \"a\": 2}", "2:", "\"a\" stands twice"),
        ("{\"a\": [1,\n}", "2:", "not valid JSON"),
        ("{'a': 1}", "1:", "not valid JSON"),
        ("{\"a\": NaN}", "1:", "not valid JSON"),
        (&"[".repeat(1000), "1:", "recursion limit"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(start) && error.contains(word), "{text:.40}: {error}");
    }
}

#[derive(serde::Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Sample {
    name: String,
    #[serde(default)]
    list: Vec<Inner>,
}

#[derive(serde::Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Inner {
    on: bool,
}

#[test]
fn plumbs_own_files_name_the_field_and_its_place() {
    assert!(read_typed::<Sample>(b"name: x\nlist:\n- \"on\": true\n").is_ok());
    for (text, expected) in [
        ("name: x\nlist:\n- \"on\": 5\n", "3:3 list[0].on: invalid type: integer `5`, expected a boolean"),
        ("name: x\nnmae: y\n", "2:1 nmae: unknown field `nmae`, expected `name` or `list`"),
        ("name: x\nlist:\n- {\"on\": true, off: 1}\n", "3:16 the key \"off\" is not text in YAML but a boolean"),
        ("name: x\nlist:\n  - \"on\": true\n    of: 1\n", "4:5 list[0].of: unknown field `of`"),
        ("# none\n", "1:1 missing field `name`"),
        ("list: []\n", "1:1 missing field `name`"),
        ("name: x\n---\nname: y\n", "3:1 a second document"),
        ("[]\n", "1:1 invalid length 0"),
        ("name: ~\n", "1:1 name: invalid type: null"),
    ] {
        let error = read_typed::<Sample>(text.as_bytes()).unwrap_err();
        assert!(format!("{} {error}", error.at).starts_with(expected), "{text}: {} {error}", error.at);
    }
}

#[test]
fn the_line_of_a_path_is_found_again() {
    let text = b"a: 1\n---\nspec:\n  ports:\n  - name: x\n  - name: y\n    port:\n";
    assert_eq!(line_of(text, 2, "spec.ports[1].port"), Some(7));
    assert_eq!(line_of(text, 2, "spec.ports[1].nothing"), Some(6));
    assert_eq!(line_of(text, 3, "spec"), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = documents(&bytes, Notation::Yaml);
        let _ = documents(&bytes, Notation::Json);
    }

    #[test]
    fn nothing_that_looks_like_yaml_makes_the_reader_panic(
        text in r#"([ab]|: |- |\n|\n  |[\[\]{},&*!|>'"%@#?~<\t]|---\n|\.\.\.\n|<<: |&a |\*a|0x|1e|yes){0,60}"#,
    ) {
        let _ = documents(text.as_bytes(), Notation::Yaml);
        let _ = read_typed::<Sample>(text.as_bytes());
    }

    #[test]
    fn json_means_the_same_in_both_notations(value in tree()) {
        let text = serde_json::to_string(&value).unwrap();
        let json = documents(text.as_bytes(), Notation::Json).unwrap();
        prop_assert_eq!(&json[0].value, &value);
        prop_assert_eq!(&documents(text.as_bytes(), Notation::Yaml).unwrap()[0].value, &value);
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
    ];
    let inner = leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,8}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::vec(inner, 1..3).prop_map(Value::from)
}

#[test]
fn small_mappings_weigh_what_they_take() {
    let maps = |count: usize| format!("[{}{{\"a\": 1}}]", "{\"a\": 1},".repeat(count));
    for notation in [Notation::Yaml, Notation::Json] {
        assert!(documents(maps(90_000).as_bytes(), notation).is_ok());
        let error = documents(maps(130_000).as_bytes(), notation).unwrap_err();
        assert!(error.contains("the number of values in one file exceeds the limit"), "{error}");
    }
    let quoted = format!("{{\"data\": \"{}\"}}", "{\\\"a\\\": 1},".repeat(150_000));
    assert!(documents(quoted.as_bytes(), Notation::Json).is_ok(), "text of a ConfigMap is no mapping");
}

#[test]
fn long_paths_are_not_kept_for_every_value() {
    let text = format!("{}: [{}]\n", "k".repeat(500), "1,".repeat(1000));
    let mut budget = Budget::default();
    let mut composer = Composer::new(&text, &mut budget, true);
    composer.next_document().unwrap();
    assert_eq!(composer.take_positions().len(), 2, "of the document and of its one key");
}
