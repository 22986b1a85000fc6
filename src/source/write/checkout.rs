//! In which work tree a branch is checked out: git-worktree(1), gitrepository-layout(5).

use std::path::{Path, PathBuf};

use crate::source::SourceError;
use crate::source::layout::read_pointer;

/// The work tree whose HEAD is this branch, if there is one: the repository's own, or one of its linked ones.
pub(super) fn of(common: &Path, branch: &str) -> Result<Option<PathBuf>, SourceError> {
    let here = |git: &Path| -> Result<bool, SourceError> {
        let head = read_pointer(&git.join("HEAD"), "ref: refs/heads/")?;
        Ok(head.is_some_and(|head| head == Path::new(branch)))
    };
    if let Some(work_tree) = own_work_tree(common)?
        && here(common)?
    {
        return Ok(Some(work_tree));
    }
    let linked = common.join("worktrees");
    let entries = match std::fs::read_dir(&linked) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SourceError::Io { path: linked, source }),
    };
    for entry in entries {
        let git = entry.map_err(SourceError::io(&linked))?.path();
        // It names the .git file of the work tree. For git the branch stays checked out in one that was deleted without its knowledge.
        let Some(dot_git) = read_pointer(&git.join("gitdir"), "")? else { continue };
        if here(&git)? {
            return Ok(Some(dot_git.parent().map_or_else(|| dot_git.clone(), Path::to_owned)));
        }
    }
    Ok(None)
}

/// The work tree of a repository that is not bare.
fn own_work_tree(common: &Path) -> Result<Option<PathBuf>, SourceError> {
    let file = common.join("config");
    let config = git2::Config::open(&file).map_err(SourceError::git(format!("read {}", file.display())))?;
    if config.get_bool("core.bare").unwrap_or(!common.ends_with(".git")) {
        return Ok(None);
    }
    match config.get_path("core.worktree") {
        Ok(path) => Ok(Some(common.join(path))),
        Err(_) => Ok(common.parent().map(Path::to_owned)),
    }
}
