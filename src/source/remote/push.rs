//! Moving a remote's branch, from the one commit that it is expected at to a newer one.

use std::path::Path;

use super::RemoteError;
use super::connection::Connection;
use crate::model::CommitId;
use crate::source::{RemoteUrl, SourceSettings};

/// What is being done, in errors.
pub(super) const PUSHING: &str = "pushing";

/// One branch and its new commit.
pub(in crate::source) struct Push<'a> {
    /// The repository that has the commit.
    pub from: &'a Path,
    /// The branch.
    pub branch: &'a str,
    /// Where it must be; `None`: it must not exist.
    pub expected: Option<CommitId>,
    /// Where it goes.
    pub new: CommitId,
}

/// What the remote said.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source) enum Answer {
    /// The branch is there.
    Done,
    /// It is no longer where it was expected.
    Moved,
    /// No, and why.
    Refused(String),
}

/// Pushes. An error means that no answer came.
pub(in crate::source) async fn push(
    url: &RemoteUrl,
    settings: &SourceSettings,
    push: &Push<'_>,
) -> Result<Answer, RemoteError> {
    let connection = Connection::prepare(url, settings).await?;
    let name = format!("refs/heads/{}", push.branch);
    // The remote compares and swaps: a force that can only ever do what was looked at.
    let lease = format!("--force-with-lease={name}:{}", push.expected.map(|id| id.to_string()).unwrap_or_default());
    let refspec = format!("{}:{name}", push.new);
    let arguments = ["push", "--porcelain", "--recurse-submodules=no", &lease, "--", url.as_str(), &refspec];
    let ended = connection.run(Some(push.from), arguments, PUSHING, settings.fetch_timeout).await?;
    if ended.status.success() {
        return Ok(Answer::Done);
    }
    match refusal(&String::from_utf8_lossy(&ended.output)) {
        // Seen here before anything is sent, or there when the ref is locked.
        Some(reason) if reason.contains("(stale info)") || ended.errors.contains("but expected") => Ok(Answer::Moved),
        // git's advice on this one is long, and not ours.
        Some(reason) if reason.contains("checked out") => Ok(Answer::Refused(reason.to_owned())),
        Some(reason) => Ok(Answer::Refused(with_words(reason, &ended.errors))),
        None => Err(connection.failure(PUSHING, &ended.errors)),
    }
}

/// What `--porcelain` says of a ref that was not pushed: `!`, the refs, and the reason between tabs.
fn refusal(printed: &str) -> Option<&str> {
    printed.lines().find_map(|line| line.strip_prefix("!\t")?.split_once('\t').map(|(_, reason)| reason.trim()))
}

/// The reason with what the remote's hooks printed.
fn with_words(reason: &str, errors: &str) -> String {
    let words: Vec<&str> = errors.lines().filter_map(|line| line.strip_prefix("remote:")).map(str::trim).collect();
    let words = words.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    if words.is_empty() { reason.to_owned() } else { format!("{reason}: {words}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_from_what_git_prints() {
        let printed = "To /srv/repo.git\n!\tabc:refs/heads/dev\t[remote rejected] (pre-receive hook declined)\nDone\n";
        let reason = refusal(printed).unwrap();
        assert_eq!(reason, "[remote rejected] (pre-receive hook declined)");
        assert_eq!(
            with_words(reason, "remote: not on a Friday  \nremote: \nerror: failed to push"),
            "[remote rejected] (pre-receive hook declined): not on a Friday"
        );
        assert_eq!(refusal("To /srv/repo.git\n*\tabc:refs/heads/dev\t[new branch]\nDone\n"), None);
    }
}
