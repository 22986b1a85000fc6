//! Where definitions are read: a branch at a commit.

use std::fmt;
use std::str::FromStr;

use super::CommitId;
use super::commit::NotACommitId;

/// The configuration branch at one commit. Its text is `main@3f2a91c…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// Its commit.
    pub commit: CommitId,
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.branch, self.commit)
    }
}

impl FromStr for Configuration {
    type Err = NotACommitId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A branch's name may have an @, a commit's has none.
        let (branch, commit) = text.rsplit_once('@').unwrap_or(("", text));
        Ok(Self { branch: branch.to_owned(), commit: commit.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_its_text() {
        let commit = CommitId::new([0xab; 20]);
        for branch in ["main", "team/ops", "a@b"] {
            let at = Configuration { branch: branch.to_owned(), commit };
            assert_eq!(at.to_string().parse(), Ok(at));
        }
        assert!("main".parse::<Configuration>().is_err() && "main@abc".parse::<Configuration>().is_err());
    }
}
