//! What a builder finds wrong with a commit's images: file and step are named, nothing is applied, and the next good commit works.

use std::process::{Command, Stdio};

use git2::Oid;

use super::{Yard, dockerfile};
use crate::harness::{Change, Plumb, gone};
use crate::scene::{SOON, Scene, config_map};

/// What plumb may hold, whatever a context has in it.
const MEMORY: u64 = 256 << 20;

impl Yard {
    /// A commit that can't be built fails with these words, and nothing of it is applied.
    async fn cannot_be_built<C: Into<Change>>(&self, files: Vec<(&'static str, C)>, says: &[&str]) {
        let map = config_map("c", &[("x", "of a commit that fails")]);
        let files = files.into_iter().map(|(path, change)| (path, change.into()));
        let bad = self.push(files.chain([("manifests/c.yaml", map.into())]));
        cannot_be_built(&self.scene, bad, "web:", says).await;
        assert_eq!(self.scene.data("c").await, None, "nothing of it is applied");
    }

    /// The same branch without what was wrong, and with another answer: built, applied and run.
    async fn next_works(&self, answer: &str, without: Option<&'static str>) {
        let before = self.runs("web").await;
        let files = [
            ("apps/web/Dockerfile", dockerfile("").into()),
            ("apps/web/answer", self.answer(answer).into()),
            ("manifests/c.yaml", config_map("c", &[("x", answer)]).into()),
        ];
        let good = self.push(files.into_iter().chain(without.map(|file| (file, Change::Remove))));
        self.scene.deployed(good).await;
        self.runs_another("web", &before).await;
        assert_eq!(self.scene.data("c").await, Some(format!("x={answer}")));
        let gone = self.push([("manifests/c.yaml", Change::Remove)]);
        self.scene.deployed(gone).await;
    }

    /// A blob of a gigabyte in the repository, made without holding it.
    fn gigabyte(&self) -> Change {
        let zeros = tempfile::NamedTempFile::new().unwrap();
        zeros.as_file().set_len(1 << 30).unwrap();
        let hashed = Command::new("git")
            .args(["-c", "core.compression=1", "-c", "core.bigFileThreshold=1m", "hash-object", "-w", "--no-filters"])
            .arg(zeros.path())
            .current_dir(self.scene.env.repository().path())
            .stdin(Stdio::null())
            .output()
            .expect("git starts");
        assert!(hashed.status.success(), "{}", String::from_utf8_lossy(&hashed.stderr));
        let id = String::from_utf8(hashed.stdout).unwrap();
        Change::Object(git2::Oid::from_str(id.trim()).unwrap(), git2::FileMode::Blob)
    }
}

/// The commit fails for its image, with these words.
pub async fn cannot_be_built(scene: &Scene, bad: Oid, image: &str, says: &[&str]) {
    let entry = scene.ended(bad).await;
    assert_eq!((entry.outcome.as_str(), entry.stage.as_deref()), ("Failed", Some("build")), "{entry:?}");
    assert!(entry.took_ms.contains_key("build"), "{entry:?}");
    let message = entry.message.unwrap_or_default();
    for words in [image].iter().chain(says) {
        assert!(message.contains(words), "{words:?} is not in {message:?}");
    }
}

/// A plumb that has deployed two images.
async fn deployed(yard: &Yard) -> Plumb {
    let first = yard.push_both();
    let plumb = yard.run();
    yard.scene.deployed(first).await;
    plumb
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn sources_that_cannot_be_built_are_named_and_the_next_commit_works() {
    let yard = Yard::new("badsources").await;
    let plumb = deployed(&yard).await;

    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    yard.cannot_be_built(
        vec![("apps/web/model.bin", pointer)],
        &["apps/web/model.bin is a git-lfs pointer", "add the file to git"],
    )
    .await;
    yard.next_works("after-lfs", Some("apps/web/model.bin")).await;

    yard.cannot_be_built(
        vec![("apps/web/large.bin", yard.gigabyte())],
        &["apps/web/large.bin is 1073741824 bytes", "the limit for a file"],
    )
    .await;
    yard.next_works("after-large", Some("apps/web/large.bin")).await;
    let held = plumb.peak_rss();
    assert!(held < MEMORY, "{} MiB were held", held >> 20);

    let base = "# comment\nFROM localhost:1/no/such:1\nCOPY answer /answer\n";
    yard.cannot_be_built(
        vec![("apps/web/Dockerfile", base)],
        &["Dockerfile:2: the base image localhost:1/no/such:1 cannot be had"],
    )
    .await;
    yard.next_works("after-base", None).await;
}

#[tokio::test]
#[ignore = "needs root: make integration"]
async fn a_build_that_hangs_ends_at_its_time_limit_and_the_next_commit_works() {
    const WORD: &str = "hangs-in-a-build";
    let yard = Yard::new("hangs").await;
    let mut plumb = deployed(&yard).await;
    let web = yard.runs("web").await;
    plumb.terminate(SOON).await;
    let [buildkit, containerd] =
        [yard.node.buildkit(), yard.node.containerd()].map(|path| format!("unix://{}", path.display()));
    let limited = ["--builder", &buildkit, "--containerd", &containerd, "--build-timeout", "30s"];
    let plumb = yard.scene.run_with(&limited);
    let hangs = dockerfile(&format!("ENV PORT=0\nRUN [\"/hello\", \"{WORD}\"]"));
    yard.cannot_be_built(vec![("apps/web/Dockerfile", hangs)], &["cancelled after 30s, at the step", "RUN", WORD])
        .await;
    gone(WORD).await;
    // Going back builds nothing. What is built takes its time on a loaded machine, so the limit is another one for it.
    let back = yard.push([("apps/web/Dockerfile", dockerfile(""))]);
    yard.scene.deployed(back).await;
    assert_eq!(yard.runs("web").await, web);
    assert_eq!(yard.scene.data("c").await.as_deref(), Some("x=of a commit that fails"));
    drop(plumb);
    let _plumb = yard.run();
    let next = yard.push([("apps/web/answer", yard.answer("web 2"))]);
    yard.scene.deployed(next).await;
    yard.runs_another("web", &web).await;
}
