//! A Dockerfile that is not in the context: a directory of its own, with nothing else in it, by the protocol of `tonistiigi/fsutil`.
//!
//! We tell what is in the directory; for each file that the daemon then asks for by its place in that list, we send the content and an empty piece;
//! when it has all it wants, both say so.

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use futures::{StreamExt, stream};
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status, Streaming};

use super::session::Answers;
use crate::builder::BuildOrder;
use crate::model::path::normal;

/// What a message of the content holds at most.
const PIECE: usize = 32 << 10;
/// A directory, as Go has it in a mode.
const DIRECTORY: u32 = 1 << 31;

/// The Dockerfile and its path.
#[derive(Debug, Clone)]
pub(super) struct Beside {
    path: String,
    text: String,
}

impl Beside {
    /// That of an order, if its context is without it.
    pub fn of(order: &BuildOrder) -> Option<Self> {
        Some(Self { path: normal(&order.dockerfile), text: order.ignored_dockerfile.clone()? })
    }

    /// The name of its directory. It follows from the content: an older daemon takes for the same what has the same name, size and time as before.
    pub fn name(&self) -> String {
        let digest = Sha256::digest(&self.text);
        let digits = digest.iter().map(|byte| format!("{byte:02x}"));
        digits.fold("dockerfile-".to_owned(), |name, digits| name + &digits)
    }

    /// What is in the directory: the Dockerfile, after the directories that it is in.
    fn stats(&self) -> Vec<Stat> {
        let directories = self.path.match_indices('/').filter_map(|(at, _)| self.path.get(..at));
        let directory = |path: &str| Stat { path: path.to_owned(), mode: DIRECTORY | 0o755, ..Stat::default() };
        let size = self.text.len().try_into().unwrap_or(i64::MAX);
        let file = Stat { path: self.path.clone(), mode: 0o644, size, ..Stat::default() };
        directories.map(directory).chain([file]).collect()
    }

    /// The answer to one packet; `None`: there is none to give.
    fn answer(&self, asked: &Packet) -> Option<Vec<Packet>> {
        let data = |data: &[u8]| Packet { id: asked.id, data: data.to_vec(), ..packet(PacketType::PacketData) };
        match asked.r#type() {
            PacketType::PacketReq => Some(self.text.as_bytes().chunks(PIECE).map(data).chain([data(&[])]).collect()),
            PacketType::PacketFin => Some(vec![packet(PacketType::PacketFin)]),
            _ => None,
        }
    }
}

fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

#[tonic::async_trait]
impl FileSync for Beside {
    type DiffCopyStream = Answers<Packet>;
    type TarStreamStream = Answers<Packet>;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Self::DiffCopyStream>, Status> {
        if request.metadata().get("dir-name").map(|name| name.as_bytes()) != Some(self.name().as_bytes()) {
            return Err(Status::not_found("no such directory"));
        }
        let stat = |stat| Packet { stat, ..packet(PacketType::PacketStat) };
        let listed: Vec<Packet> = self.stats().into_iter().map(Some).chain([None]).map(stat).collect();
        let open = (self.clone(), Some(request.into_inner()));
        let answers = stream::unfold(open, async |(dockerfile, asked)| {
            let mut asked = asked?;
            let packet = asked.message().await.ok().flatten()?;
            let answer = dockerfile.answer(&packet)?;
            // The daemon waits for the end of the answer before it ends its own side.
            let asked = (packet.r#type() != PacketType::PacketFin).then_some(asked);
            Some((answer, (dockerfile, asked)))
        });
        let packets = stream::iter(listed).chain(answers.flat_map(stream::iter));
        Ok(Response::new(Box::pin(packets.map(Ok))))
    }

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("ask by DiffCopy"))
    }
}
