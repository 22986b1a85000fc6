//! Whether a chart may ask what time it is. Two runs of one moment would agree on it, and every later one would not.

use std::io::Read as _;
use std::time::Duration;

use super::packed::unpacked;
use crate::model::path::join;
use crate::render::error::RenderError;
use crate::render::yaml::FILE_BYTES;
use crate::source::{EntryKind, Snapshot};

/// Templates mostly write the time in whole seconds: two runs this far apart differ in it.
pub(super) const APART: Duration = Duration::from_millis(1100);

/// The functions of templates that look at the clock. The longer ones take it where they are given no time.
const WORDS: [&str; 8] =
    ["now", "ago", "date", "dateInZone", "date_in_zone", "htmlDate", "htmlDateInZone", "durationRound"];

/// Whether a file of the chart mentions one of them, be it in a branch that is never rendered.
pub(super) fn mentioned(snapshot: &Snapshot, path: &str) -> Result<bool, RenderError> {
    for (name, entry) in snapshot.list(path)? {
        let file = join(path, &name);
        let found = match entry.kind {
            EntryKind::Tree => mentioned(snapshot, &file)?,
            EntryKind::File | EntryKind::Executable => {
                let bytes = snapshot.blob(&file, &entry)?;
                if name.ends_with("gz") { mentioned_in_packed(&bytes) } else { mentioned_in(&bytes) }
            }
            EntryKind::Symlink | EntryKind::Submodule => false,
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a template has one of the words in an action. `}}` may stand in a text of the action, so it is the last one that counts.
pub(super) fn mentioned_in(template: &[u8]) -> bool {
    let template = String::from_utf8_lossy(template);
    let actions = template.split("{{").skip(1).filter_map(|part| Some(part.rsplit_once("}}")?.0));
    let mut words = actions.flat_map(|action| action.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.any(|word| WORDS.contains(&word))
}

/// The same for the files of a packed chart. A packed one in it is not unpacked: it is taken to be one that does.
fn mentioned_in_packed(bytes: &[u8]) -> bool {
    let mut archive = unpacked(bytes);
    let Ok(entries) = archive.entries() else { return false };
    let limit = u64::try_from(FILE_BYTES).unwrap_or(u64::MAX);
    let mut files = entries.map_while(Result::ok);
    files.any(|file| {
        let packed = file.path().is_ok_and(|path| path.extension().is_some_and(|end| end == "tgz" || end == "gz"));
        let mut text = Vec::new();
        // What can't be read is Helm's to complain about.
        packed || file.take(limit).read_to_end(&mut text).is_ok_and(|_| mentioned_in(&text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_looked_for_in_actions() {
        for template in [
            "a: {{ now | unixEpoch }}",
            "{{- $day:=now|date \"2006\" -}}",
            "{{ if (eq .x \"}}\") }}{{ printf \"}}\" (now) }}{{ end }}",
            "a: {{ .Values.x }}\nb: {{\n  ago .Values.when }}",
            "{{ htmlDate 0 }}",
        ] {
            assert!(mentioned_in(template.as_bytes()), "{template}");
        }
        for template in ["now: {{ .Values.x }} # as of now\n{{ .y }}", "{{ .Values.known }} {{ nowhere }}", "now", ""] {
            assert!(!mentioned_in(template.as_bytes()), "{template}");
        }
    }
}
