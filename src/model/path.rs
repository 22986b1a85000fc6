//! Paths of a repository, as text: relative to its root, parted by slashes; the root is empty.

/// The path without `.` and doubled slashes, so that a file has one name.
pub fn normal(path: &str) -> String {
    parts(path).collect::<Vec<_>>().join("/")
}

/// What is called `name` in a directory.
pub fn join(directory: &str, name: &str) -> String {
    match (directory, name) {
        ("", name) => name.to_owned(),
        (directory, "") => directory.to_owned(),
        (directory, name) => format!("{directory}/{name}"),
    }
}

/// Whether a path of a user's document stays inside the repository: relative, without `..`, backslash or NUL, and not empty.
pub fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.contains(['\\', '\0'])
        && path.split('/').all(|part| part != "..")
}

/// Whether a link at `path` leads to something inside `top`.
///
/// `..` may stand at the beginning only: there it goes up from the link's own directory, which is a real one. After a name, which may be
/// another link, the text would not tell where it leads.
pub fn stays_inside(top: &str, path: &str, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let up = parts(target).take_while(|part| *part == "..").count();
    let depth = parts(path).count().saturating_sub(parts(top).count()).saturating_sub(1);
    up <= depth && parts(target).skip(up).all(|part| part != "..")
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

/// A path relative to a directory of the repository, as a path of the repository; `None` if it leaves it.
pub fn resolve(directory: &str, entry: &str) -> Option<String> {
    if entry.starts_with('/') || entry.contains(['\\', '\0']) {
        return None;
    }
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in entry.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_name() {
        for (path, name) in [("./a//b/", "a/b"), (".", ""), ("", ""), ("a", "a")] {
            assert_eq!(normal(path), name);
        }
        assert_eq!([join("", "a"), join("a", "b/c"), join("a", "")], ["a", "a/b/c", "a"]);
    }

    #[test]
    fn paths_stay_inside() {
        assert!(is_inside("a/b..c") && is_inside("."));
        for path in ["", "/a", "a/../b", "..", "a\\b", "a\0"] {
            assert!(!is_inside(path), "{path:?}");
        }
    }

    #[test]
    fn links_stay_inside() {
        for (path, target, inside) in [
            ("c/a", "b", true),
            ("c/t/a", "../b", true),
            ("c/t/a", "../../b", false),
            ("c/a", "..", false),
            ("c/a", "/etc/passwd", false),
            ("c/a", "t/../../b", false),
            ("c/a", "t/../b", false),
            ("c/a", "", false),
            ("c/t/u/a", "../../b/c", true),
            ("c/t/a", "./../b", true),
        ] {
            assert_eq!(stays_inside("c", path, target), inside, "{path} -> {target}");
        }
        assert!(stays_inside("", "t/a", "../b") && !stays_inside("", "a", "../b"));
    }
}
