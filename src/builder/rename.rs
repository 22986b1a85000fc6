//! On its way to a builder the Dockerfile gets the names that its bases of this repository were built as: for daemons that know no named contexts,
//! and where such a name would be taken for a stage of the Dockerfile.
//!
//! The other way, to give a base its plain name for as long as the build takes, would take that name from whoever has an image of it.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tar::{EntryType, Header};

use crate::build::dockerfile::Dockerfile;
use crate::builder::{BuildOrder, Context};
use crate::model::path::normal;

/// A tar's unit.
const BLOCK: usize = 512;

/// The largest Dockerfile that is read, and the longest path.
const LARGEST: u64 = 4 << 20;

/// The order without names that a stage could have, and what makes its context so. BuildKit looks first whether a named context is called as a stage
/// is; that is the stage, then, and none of its instructions are run.
pub fn early(order: &mut BuildOrder) -> impl FnOnce(Context) -> Context + Send + use<> {
    let before = order.clone();
    beside(order);
    order.bases = before.bases.values().map(|reference| (reference.clone(), reference.clone())).collect();
    move |context| rename(context, &before)
}

/// The context with another Dockerfile. One that can't be read stays as it is: the daemon says what is wrong with it.
pub(super) fn rename(context: Context, order: &BuildOrder) -> Context {
    // Its end is come upon twice, and not every stream bears that.
    let context = Box::pin(context.fuse());
    let renaming = Renaming { context, order: order.clone(), held: BytesMut::new(), long_path: None, at: At::Header };
    Box::pin(futures::stream::try_unfold(renaming, async |mut renaming| {
        Ok(renaming.piece().await?.map(|piece| (piece, renaming)))
    }))
}

/// The same for a Dockerfile beside the context.
pub(super) fn beside(order: &mut BuildOrder) {
    let Some(text) = &mut order.ignored_dockerfile else { return };
    if let Ok(renamed) = Dockerfile::renamed(text.as_bytes(), &order.args, &order.bases) {
        *text = renamed;
    }
}

struct Renaming {
    context: Context,
    order: BuildOrder,
    /// What has come and not gone.
    held: BytesMut,
    /// The path of the next entry, if its header is too short for it.
    long_path: Option<Vec<u8>>,
    at: At,
}

/// What comes next.
enum At {
    Header,
    /// So many bytes of an entry that stays as it is.
    Entry(u64),
    /// What stays as it is to its end.
    Rest,
}

impl Renaming {
    async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.at {
                At::Header => {
                    if !self.hold(BLOCK).await? {
                        self.at = At::Rest;
                    } else if let Some(dockerfile) = self.entry().await? {
                        return Ok(Some(dockerfile));
                    }
                }
                At::Entry(0) => self.at = At::Header,
                At::Entry(left) => {
                    if !self.hold(1).await? {
                        return Ok(None);
                    }
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.held.len());
                    self.at = At::Entry(left - count as u64);
                    return Ok(Some(self.held.split_to(count).freeze()));
                }
                At::Rest if self.held.is_empty() => return self.context.next().await.transpose(),
                At::Rest => return Ok(Some(self.held.split().freeze())),
            }
        }
    }

    /// Waits until so many bytes are held; `false`: there are no more.
    async fn hold(&mut self, count: usize) -> io::Result<bool> {
        while self.held.len() < count {
            let Some(piece) = self.context.next().await else { return Ok(false) };
            self.held.extend_from_slice(&piece?);
        }
        Ok(true)
    }

    /// Looks at the entry whose header is held. The Dockerfile's is given, all of it; any other stays where it is.
    async fn entry(&mut self) -> io::Result<Option<Bytes>> {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(self.held.get(..BLOCK).unwrap_or(&[0; BLOCK]));
        let size = header.entry_size().unwrap_or_default();
        let padded = size.next_multiple_of(BLOCK as u64);
        self.at = At::Entry(padded.saturating_add(BLOCK as u64));
        let path = self.long_path.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = header.entry_type();
        let is_dockerfile = kind == EntryType::Regular && path == normal(&self.order.dockerfile).as_bytes();
        if size > LARGEST || !(is_dockerfile || kind == EntryType::GNULongName) {
            return Ok(None);
        }
        // Smaller than LARGEST.
        let (size, padded) = (size as usize, padded as usize);
        if !self.hold(BLOCK + padded).await? {
            return Ok(None);
        }
        let content = self.held.get(BLOCK..BLOCK + size).unwrap_or_default();
        if !is_dockerfile {
            let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
            self.long_path = content.get(..end).map(<[u8]>::to_vec);
            return Ok(None);
        }
        let Ok(renamed) = Dockerfile::renamed(content, &self.order.args, &self.order.bases) else { return Ok(None) };
        header.set_size(renamed.len() as u64);
        header.set_cksum();
        let mut entry = BytesMut::from(&header.as_bytes()[..]);
        entry.extend_from_slice(renamed.as_bytes());
        entry.resize(BLOCK + renamed.len().next_multiple_of(BLOCK), 0);
        drop(self.held.split_to(BLOCK + padded));
        self.at = At::Header;
        Ok(Some(entry.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    type Files = Vec<(String, Vec<u8>)>;

    fn tar(files: &Files) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, &**content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    async fn renamed(tar: &[u8], pieces: usize, dockerfile: &str) -> io::Result<Vec<u8>> {
        let bases = BTreeMap::from([("web".to_owned(), "web:0a".to_owned())]);
        let order = BuildOrder { dockerfile: dockerfile.to_owned(), bases, ..BuildOrder::default() };
        let pieces: Vec<_> = tar.chunks(pieces).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut context = rename(Box::pin(futures::stream::iter(pieces)), &order);
        let mut all = Vec::new();
        while let Some(piece) = context.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    fn files(tar: &[u8]) -> Files {
        let mut archive = tar::Archive::new(tar);
        let read = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().to_str().unwrap().to_owned(), content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[tokio::test]
    async fn only_the_dockerfile_is_another() {
        let long = format!("{}Dockerfile", "deep/".repeat(40));
        for dockerfile in ["Dockerfile", "docker/Dockerfile", &long] {
            let many = format!("FROM web\n# {}", "x".repeat(2000));
            let mut given: Files = ["a", "Dockerfile", "docker/Dockerfile", &long, "z/Dockerfile"]
                .map(|path| (path.to_owned(), b"FROM web\n".to_vec()))
                .into();
            given.push(("large".to_owned(), vec![7; 100_000]));
            for text in ["FROM web\n", &many] {
                let at = given.iter().position(|(path, _)| path == dockerfile).unwrap();
                given[at].1 = text.as_bytes().to_vec();
                let mut expected = given.clone();
                expected[at].1 = text.replace("web", "web:0a").into_bytes();
                for pieces in [7, 512, 1000, 1 << 20] {
                    let renamed = renamed(&tar(&given), pieces, dockerfile).await.unwrap();
                    assert_eq!(renamed, tar(&expected), "{dockerfile} in pieces of {pieces}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_stage_that_is_called_as_its_base_is_a_stage() {
        let text = "FROM web AS web\nRUN make\nFROM a\nCOPY --from=WEB / /\n";
        let renamed = text.replacen("FROM web", "FROM web:0a", 1);
        let bases = |name: &str| BTreeMap::from([(name.to_owned(), "web:0a".to_owned())]);
        let order = BuildOrder { dockerfile: "Dockerfile".to_owned(), bases: bases("web"), ..BuildOrder::default() };

        let mut within = order.clone();
        let context = early(&mut within);
        assert_eq!(within, BuildOrder { bases: bases("web:0a"), ..order.clone() }, "nothing is called web any more");
        let tar = |text: &str| tar(&vec![("Dockerfile".to_owned(), text.as_bytes().to_vec())]);
        let pieces: Context = Box::pin(futures::stream::iter([Ok(Bytes::from(tar(text)))]));
        let sent: Vec<u8> = context(pieces).map(|piece| piece.unwrap().to_vec()).concat().await;
        assert_eq!(sent, tar(&renamed));

        let mut beside = BuildOrder { ignored_dockerfile: Some(text.to_owned()), ..order };
        _ = early(&mut beside);
        assert_eq!((beside.ignored_dockerfile, beside.bases), (Some(renamed), bases("web:0a")));
    }

    #[tokio::test]
    async fn what_is_no_context_stays_as_it_is() {
        let whole = tar(&vec![("Dockerfile".to_owned(), b"FROM web".to_vec())]);
        let without = tar(&vec![("a".to_owned(), b"FROM web".to_vec())]);
        let broken = tar(&vec![("Dockerfile".to_owned(), b"RUN web".to_vec())]);
        for given in [&[], &[1; 100][..], &[1; 5000], &[0; 5000], &whole[..300], &whole[..600], &without, &broken] {
            assert_eq!(renamed(given, 64, "Dockerfile").await.unwrap(), given);
        }
        assert_eq!(files(&renamed(&whole, 64, "Dockerfile").await.unwrap())[0].1, b"FROM web:0a");
    }

    #[tokio::test]
    async fn the_end_of_a_context_is_asked_for_once() {
        for whole in [tar(&vec![("Dockerfile".to_owned(), b"FROM web".to_vec())]), Vec::new(), vec![1; 100]] {
            let once = futures::stream::unfold(Some(whole), async |whole| Some((Ok(Bytes::from(whole?)), None)));
            let sent: Vec<_> = rename(Box::pin(once), &BuildOrder::default()).collect().await;
            assert!(sent.iter().all(Result::is_ok));
        }
    }

    #[tokio::test]
    async fn a_context_that_breaks_off_says_why() {
        let broken = futures::stream::iter([Ok(Bytes::from_static(&[0; 600])), Err(io::Error::other("gone"))]);
        let mut context = rename(Box::pin(broken), &BuildOrder::default());
        let mut last = None;
        while let Some(piece) = context.next().await {
            last = Some(piece);
        }
        assert_eq!(last.unwrap().unwrap_err().to_string(), "gone");
    }
}
