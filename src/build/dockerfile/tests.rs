use super::*;

fn read(text: &str) -> Dockerfile {
    Dockerfile::read(text.as_bytes(), &BTreeMap::from([("GIVEN".to_owned(), "g".to_owned())])).unwrap()
}

fn images(text: &str) -> Vec<String> {
    read(text).images
}

#[test]
fn images_are_those_of_from_copy_and_mount_without_stages() {
    let text = "# syntax=docker/dockerfile:1\n\
        FROM --platform=$BUILDPLATFORM node:20 AS Build\n\
        RUN --mount=type=bind,from=tools:1,target=/t --network=none make\n\
        from build as test\n\
        FROM scratch\n\
        COPY --from=build --chown=1:1 /a /a\n\
        COPY --link --from=busybox /bin/sh /sh\n\
        COPY --from=0 /b /b\n\
        FROM node:20\n";
    let file = read(text);
    assert_eq!(file.images, ["node:20", "tools:1", "busybox"]);
    assert_eq!(file.floating_syntax(), Some("docker/dockerfile:1"));
    let pinned = read("#Syntax = docker/dockerfile:1@sha256:00 and=more\nFROM a");
    assert_eq!((pinned.syntax.as_deref(), pinned.floating_syntax()), (Some("docker/dockerfile:1@sha256:00"), None));
    assert_eq!(file.count, 4);
    assert!(file.has_stage("BUILD") && file.has_stage("test") && file.has_stage("3") && !file.has_stage("4"));
    assert_eq!(file.floating().count(), 3);
    assert_eq!(read("FROM a:1@sha256:00\nFROM b").floating().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn flags_are_read_as_buildkit_reads_them() {
    let file = read(
        "FROM a AS build\n\
        COPY --from=\"web\" / /\n\
        RUN --mount=\"type=bind,From=tools\" --mount='\"from=csv\",type=bind' make\n\
        COPY --from='Build' --link / /\n\
        COPY --from=\"0\" / /\n\
        COPY --from=w\"eb\" / /\n\
        COPY --from=\"bui\"ld / /\n\
        RUN --mount='from=\"web\"' make\n",
    );
    assert_eq!(file.images, ["a", "web", "tools", "csv"]);
    assert_eq!(file.open, ["web", "from=\"web\""], "neither a stage nor a number");
}

#[test]
fn a_stage_may_be_called_as_an_image() {
    let file = read("FROM base AS Base\nFROM a\nCOPY --from=base / /\nFROM r:5/x AS x\nFROM team/y AS y\n");
    assert_eq!(file.images, ["base", "a", "r:5/x", "team/y"]);
    for (image, expected) in [
        ("base", true),
        ("base:latest", true),
        ("docker.io/base", true),
        ("index.docker.io/library/base", true),
        ("base:1", false),
        ("base@sha256:00", false),
        ("a", false),
        ("x", true),
        ("r:5/x", false),
        ("team/y", false),
    ] {
        assert_eq!(file.has_stage_called(image), expected, "{image}");
    }
}

#[test]
fn arguments_before_the_first_from_are_substituted() {
    for (text, expected) in [
        ("ARG V=20\nFROM node:$V", "node:20"),
        ("ARG V=\"20\" W=a-${V}\nFROM node:${W}-slim", "node:a-20-slim"),
        ("ARG GIVEN=x\nFROM node:$GIVEN", "node:g"),
        ("ARG GIVEN\nFROM node:$GIVEN", "node:g"),
        ("FROM node:${NONE:-${OTHER:-1}}", "node:1"),
        ("ARG V=\nFROM node:${V:-1}${V+2}${V:+3}${V-4}", "node:12"),
        ("ARG V=1\nFROM node:${V:-2}${V:+3}${V:?no}", "node:131"),
        ("FROM \"node:1\"", "node:1"),
        ("ARG V='$x'\nFROM node:1$V", "node:1$x"),
    ] {
        assert_eq!(images(text), [expected], "{text}");
    }
    // Only what is declared: an argument inside a stage is not one of FROM's.
    assert_eq!(images("FROM a\nARG GIVEN=1\nFROM b:${GIVEN:-no}"), ["a", "b:no"]);
    let file = read("FROM a AS base-arm64\nFROM base-${TARGETARCH}\nCOPY --from=$X a b");
    assert_eq!(
        (file.images, file.open),
        (vec!["a".to_owned()], vec!["base-${TARGETARCH}".to_owned(), "$X".to_owned()])
    );
}

#[test]
fn what_only_looks_like_from_is_none() {
    for text in [
        "FROM a\nRUN <<EOF\nFROM b\nEOF\n",
        "FROM a\nRUN cat <<'A' <<-\"B\" > x\nFROM b\nA\nFROM c\n\t\tB\nRUN x\n",
        "FROM a\nCOPY <<x /y\nFROM b\nx\n",
        "FROM a\nONBUILD RUN <<E\nFROM b\nE",
        "FROM a\nRUN echo \\\nFROM b\n",
        "FROM a\nRUN echo \\\n# a comment \\\n\n  FROM b\n",
        "# escape=`\nFROM a\nRUN dir c:\\\nRUN echo ` \nFROM b\n",
        "\u{feff}FROM a\n# FROM b\n\t#FROM c\n",
        "FROM a\nRUN echo \"x <<EOF y\" $((1<<2))\n#\n",
    ] {
        assert_eq!(images(text), ["a"], "{text}");
    }
    assert_eq!(images("FROM a\nRUN echo \"<<EOF\"\nFROM b\n"), ["a", "b"]);
    assert_eq!(images("FROM a\nRUN c:\\\\\nFROM b\n"), ["a", "b"]);
    assert_eq!(images("# comment\n# escape=`\nFROM \\\r\n a\r\n"), ["a"]);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, expected) in [
        ("", "it has no FROM"),
        ("ARG A\n", "it has no FROM"),
        ("RUN x\nFROM a", "line 1: RUN stands before the first FROM"),
        ("FROM\n", "line 1: FROM is not"),
        ("FROM a b\n", "line 1: FROM is not"),
        ("\nFROM $NONE\n", "line 2: \"\" names no image"),
        ("FROM a\nRUN <<EOF\nx\n", "line 2: the here-document has no end: no line is \"EOF\""),
        ("# escape=x\nFROM a", "line 1: the escape character"),
        ("FROM a:${X%y}", "line 1: \"${X%y}\" is a substitution"),
        ("FROM a:${X", "line 1: \"${X\" is a substitution"),
    ] {
        let error = Dockerfile::read(text.as_bytes(), &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn what_grows_without_end_is_refused_with_its_line() {
    let none = BTreeMap::new();
    let error = |text: &str| Dockerfile::read(text.as_bytes(), &none).unwrap_err().to_string();
    let nested = |depth: usize| format!("FROM {}a{}", "${N:-".repeat(depth), "}".repeat(depth));
    assert_eq!(images(&nested(100)), ["a"]);
    let deep = "there are more than 100 substitutions inside each other";
    assert_eq!(error(&nested(101)), format!("line 1: {deep}"));
    assert_eq!(error(&nested(16_000)), format!("line 1: {deep}"));
    assert_eq!(error(&nested(16_000).replace("FROM ", "ARG A\nARG B=$A")), format!("line 2: {deep}"));

    let long = "line 6: its variables come to more than 64 KiB, with those before";
    let doubled = |lines: u8| {
        let line = |n: u8| format!("ARG {}={}\n", char::from(b'b' + n), format!("${}", char::from(b'a' + n)).repeat(8));
        let lines: String = (0..lines).map(line).collect();
        format!("ARG a=xxxxxxxx\n{lines}")
    };
    assert_eq!(error(&doubled(10)), long, "8 to the power of 6");
    // Not the longest counts, but all together.
    let fits = format!("{}FROM i:$d\n", doubled(3));
    assert_eq!(images(&fits), [format!("i:{}", "x".repeat(1 << 12))]);
    assert!(error(&format!("{}{}", doubled(3), "FROM i:$d\n".repeat(20))).ends_with(&long[7..]));
    assert!(error(&format!("FROM ${{X%{}}}", "x".repeat(100_000))).len() < 200);
}

#[test]
fn images_get_other_names_and_all_else_stays() {
    let names = BTreeMap::from(
        [("web", "web:0a"), ("r:5/t/x:latest", "r:5/t/x:1b")].map(|(from, to)| (from.to_owned(), to.to_owned())),
    );
    for (text, expected) in [
        ("FROM web", "FROM web:0a"),
        ("from  --platform=web \"web\" as Web # no\n", ""),
        (
            "# FROM web\n\nFROM --platform=web web AS web\r\nFROM web\n",
            "# FROM web\n\nFROM --platform=web web:0a AS web\r\nFROM web\n",
        ),
        ("FROM 'web' AS x\nRUN echo web\nFROM r:5/t/x:latest", "FROM web:0a AS x\nRUN echo web\nFROM r:5/t/x:1b"),
        ("ARG B=web\nFROM ${B:-no}\nARG web\n", "ARG B=web\nFROM web:0a\nARG web\n"),
        ("FROM web:1\nFROM webs\nFROM r:5/t/x\n", "FROM web:1\nFROM webs\nFROM r:5/t/x\n"),
        (
            "FROM \\\n# web\n\n  web \\\n AS a\nCOPY \\\n --chown=1 --from=web \\\n web /web\n",
            "FROM \\\n# web\n\n  web:0a \\\n AS a\nCOPY \\\n --chown=1 --from=web:0a \\\n web /web\n",
        ),
        ("FROM we\\\nb AS a\n", "FROM web:0a AS a\n"),
        (
            "FROM a\nRUN --mount=type=bind,from=web,target=/web --mount=from=web cat <<web\nFROM web\nweb\nFROM web",
            "FROM a\nRUN --mount=type=bind,from=web:0a,target=/web --mount=from=web:0a cat <<web\nFROM web\nweb\nFROM web:0a",
        ),
        (
            "FROM a\nCOPY --from=\"web\" / /\nRUN --mount=\"type=bind,From=web\" '--mount=from=web' make\n",
            "FROM a\nCOPY --from=\"web:0a\" / /\nRUN --mount=\"type=bind,From=web:0a\" '--mount=from=web' make\n",
        ),
        ("\u{feff}# escape=`\nFROM `\nweb\n", "# escape=`\nFROM `\nweb:0a\n"),
    ] {
        let renamed = Dockerfile::renamed(text.as_bytes(), &BTreeMap::new(), &names);
        if expected.is_empty() {
            assert!(renamed.is_err(), "{text}");
            continue;
        }
        assert_eq!(renamed.as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_read_is_no_longer_than_what_may_be_substituted() {
    use proptest::prelude::*;
    let word = "(\\$[a-d]|\\$\\{[a-d]:[-+]|\\}|x{1,99}){0,40}";
    let arg = ("[a-d]", word).prop_map(|(name, word)| format!("ARG {name}={word}\n"));
    proptest!(|(args in prop::collection::vec(arg, 0..12), from in prop::collection::vec(word, 1..9))| {
        let text = args.concat() + &from.iter().map(|word| format!("FROM i{word}\n")).collect::<String>();
        if let Ok(file) = Dockerfile::read(text.as_bytes(), &BTreeMap::new()) {
            prop_assert!(file.images.iter().map(String::len).sum::<usize>() <= text.len() + words::LENGTH);
        }
    });
}

#[test]
fn any_text_is_read_or_refused() {
    use proptest::prelude::*;
    proptest!(|(text in "(FROM |RUN |ARG |a|\\$\\{|\\}|<<E|\n|\\\\|'|\"|:-|=|`|# ){0,30}")| {
        let none = BTreeMap::new();
        if let Ok(file) = Dockerfile::read(text.as_bytes(), &none) {
            let same = Dockerfile::renamed(text.as_bytes(), &none, &none);
            prop_assert_eq!(same.as_deref(), Ok(&*text));
            let names = file.images.iter().map(|image| (image.clone(), "x:0a".to_owned())).collect();
            let renamed = Dockerfile::renamed(text.as_bytes(), &none, &names).unwrap();
            let again = Dockerfile::read(renamed.as_bytes(), &none).unwrap();
            prop_assert_eq!(again.places.len(), file.places.len(), "{}", renamed);
        }
    });
}
