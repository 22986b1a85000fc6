//! Packed charts. Helm is given them packed anew, with the files that were read here: two readers of tar need not agree on a file's name, and
//! the schema that is checked has to be the one that is used.

use std::io::{self, Read};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::chart::{DEPTH, SCHEMA, check_schema};
use super::error::HelmError;
use crate::render::error::RenderError;

/// What the packed charts of a chart may unpack to; Helm has a limit of its own.
pub(super) const UNPACKED: u64 = 128 << 20;

/// The files of a packed chart.
pub(super) fn unpacked(bytes: &[u8]) -> tar::Archive<impl Read> {
    tar::Archive::new(gunzip(bytes).take(UNPACKED))
}

/// gzip may have more than one member, and Helm reads them all.
fn gunzip(bytes: &[u8]) -> impl Read {
    MultiGzDecoder::new(bytes)
}

/// Whether Helm could unpack it.
pub(super) fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x1f\x8b")
}

/// Packs a chart anew, and the charts in it, after a look at their schemas. `left` is what may still be unpacked.
pub(super) fn repacked(bytes: &[u8], file: &str, depth: usize, left: &mut u64) -> Result<Vec<u8>, RenderError> {
    if depth > DEPTH {
        return Err(HelmError::TooDeep { file: file.to_owned(), limit: DEPTH }.into());
    }
    let failed = |source| HelmError::Packed { file: file.to_owned(), source };
    let mut packed = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, mut content) in files(bytes, left).map_err(failed)? {
        if name.rsplit('/').next() == Some(SCHEMA) {
            check_schema(&content, file)?;
        }
        // Helm unpacks those of `charts/`; any other is a file that templates may read.
        let of_charts = name.ends_with(".tgz") && name.rsplit('/').nth(1) == Some("charts");
        if of_charts && is_packed(&content) {
            content = repacked(&content, file, depth + 1, left)?;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len().try_into().unwrap_or(u64::MAX));
        header.set_mode(0o644);
        packed.append_data(&mut header, name, &*content).map_err(failed)?;
    }
    Ok(packed.into_inner().and_then(GzEncoder::finish).map_err(failed)?)
}

/// The files with their names. What else may be in an archive, such as links, means nothing to Helm.
fn files(bytes: &[u8], left: &mut u64) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut reader = gunzip(bytes).take(*left);
    let mut files = Vec::new();
    for entry in tar::Archive::new(&mut reader).entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).replace('\\', "/");
        if name.ends_with('/') || !has_content(&mut entry)? {
            continue;
        }
        let name = clean(&name).ok_or_else(|| io::Error::other(format!("{name:?} is no path in a chart")))?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.push((name, content));
    }
    *left = reader.limit();
    // What was cut off there may be the end of a file, or files.
    if *left == 0 { Err(io::Error::other("it is too large")) } else { Ok(files) }
}

/// Whether it is a file. One with holes would be read otherwise by Helm than here.
fn has_content(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<bool> {
    let sparse = |name: &str| name.starts_with("GNU.sparse.");
    let extensions = entry.pax_extensions()?.into_iter().flatten();
    let has_holes = extensions.flatten().any(|extension| extension.key().is_ok_and(sparse));
    match entry.header().entry_type() {
        tar::EntryType::Regular if !has_holes => Ok(true),
        tar::EntryType::Directory | tar::EntryType::Link | tar::EntryType::Symlink => Ok(false),
        tar::EntryType::XGlobalHeader => Ok(false),
        _ => Err(io::Error::other("it has a file with holes, or something that is none")),
    }
}

/// The path as Helm reads it; `None` for what it refuses, or would take for another one.
fn clean(name: &str) -> Option<String> {
    let mut parts = name.split('/');
    let first = parts.next().filter(|first| !matches!(*first, "" | "." | ".."))?;
    let rest = parts.filter(|part| !matches!(*part, "" | "."));
    let whole = std::iter::once(first).chain(rest).collect::<Vec<_>>();
    (!whole.contains(&"..")).then(|| whole.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::packed;
    use super::*;

    const REMOTE: &str = r#"{"$ref": "http://127.0.0.1:9/x"}"#;

    fn refused(bytes: &[u8], left: u64) -> String {
        repacked(bytes, "c.tgz", 0, &mut { left }).unwrap_err().failure().to_string()
    }

    #[test]
    fn the_schemas_that_helm_would_find_are_looked_at() {
        let inner = packed(&[("sub/Chart.yaml", b"name: sub"), ("sub/values.schema.json", REMOTE.as_bytes())]);
        let nested = packed(&[("web/Chart.yaml", b"name: web"), ("web/charts/sub-1.tgz", &inner)]);
        assert!(refused(&nested, UNPACKED).contains("http://127.0.0.1:9/x"));
        // As Windows writes paths.
        let backslashes = packed(&[("sub\\values.schema.json", REMOTE.as_bytes())]);
        assert!(refused(&backslashes, UNPACKED).contains("http://127.0.0.1:9/x"));
        // In a second member of gzip: the tar's first half is another one.
        let mut tar = Vec::new();
        gunzip(&inner).read_to_end(&mut tar).unwrap();
        let (first, second) = tar.split_at(700);
        let members = [zip(first), zip(second)].concat();
        assert!(refused(&members, UNPACKED).contains("http://127.0.0.1:9/x"));
    }

    #[test]
    fn what_cannot_be_read_whole_is_refused() {
        let good = packed(&[("sub/Chart.yaml", b"name: sub"), ("sub/x", &[b'x'; 2000])]);
        assert!(repacked(&good, "c.tgz", 0, &mut { UNPACKED }).is_ok());
        assert!(refused(&good, 1000).contains("c.tgz cannot be unpacked: "), "{}", refused(&good, 1000));
        assert!(refused(&good[..good.len() / 2], UNPACKED).contains("c.tgz cannot be unpacked: "));
        let mut out = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        let name = b"sub/x/../values.schema.json";
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_size(0);
        header.set_cksum();
        out.append(&header, io::empty()).unwrap();
        let out = out.into_inner().unwrap().finish().unwrap();
        assert!(refused(&out, UNPACKED).contains("is no path in a chart"));
        let nested = (0..=DEPTH + 1).fold(good, |chart, _| packed(&[("sub/charts/sub-1.tgz", &chart)]));
        assert!(refused(&nested, UNPACKED).contains("charts inside each other"));
    }

    #[test]
    fn what_is_no_chart_in_a_chart_stays_as_it_is() {
        let data = packed(&[("bin/plugin", b"#!/bin/sh")]);
        let chart = packed(&[("sub/Chart.yaml", b"name: sub"), ("sub/files/plugins.tgz", &data)]);
        let again = repacked(&chart, "c.tgz", 0, &mut { UNPACKED }).unwrap();
        assert_eq!(super::files(&again, &mut { UNPACKED }).unwrap()[1], ("sub/files/plugins.tgz".to_owned(), data));
    }

    #[test]
    fn paths_are_read_as_by_helm() {
        for (name, read) in [
            ("sub/Chart.yaml", Some("sub/Chart.yaml")),
            ("sub/./Chart.yaml", Some("sub/Chart.yaml")),
            ("sub//templates/./a.yaml", Some("sub/templates/a.yaml")),
            ("./sub/Chart.yaml", None),
            ("/sub/Chart.yaml", None),
            ("sub/x/../Chart.yaml", None),
            ("..", None),
        ] {
            assert_eq!(clean(name).as_deref(), read, "{name}");
        }
    }

    #[test]
    fn what_helm_may_read_otherwise_is_refused() {
        let mut out = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Continuous);
        header.set_size(0);
        out.append_data(&mut header, "sub/values.yaml", io::empty()).unwrap();
        let out = out.into_inner().unwrap().finish().unwrap();
        let shown = refused(&out, UNPACKED);
        assert!(shown.contains("or something that is none"), "{shown}");
    }

    fn zip(bytes: &[u8]) -> Vec<u8> {
        let mut zipped = Vec::new();
        flate2::read::GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut zipped).unwrap();
        zipped
    }

    #[test]
    fn what_is_packed_anew_is_the_same() {
        let long = format!("sub/templates/{}.yaml", "x".repeat(200));
        let files: [(&str, &[u8]); 2] = [("sub/Chart.yaml", b"name: sub"), (&long, b"a: b")];
        let mut left = UNPACKED;
        let again = repacked(&packed(&files), "c.tgz", 0, &mut left).unwrap();
        let read = super::files(&again, &mut { UNPACKED }).unwrap();
        let expected = files.map(|(name, content)| (name.to_owned(), content.to_vec()));
        assert_eq!(read, expected);
        assert!(left < UNPACKED, "what was unpacked is off the limit");
    }
}
