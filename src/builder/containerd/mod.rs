//! containerd's store of images: what the kubelet sees.
//!
//! An image is a name for a manifest; the manifest names the config and the layers, and each of them is a blob. An image stands if all of
//! them do. Blobs that are read here are small documents; layers are only asked for. What no name has any more, and nobody else holds, containerd
//! removes by itself.

mod proto;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use serde::Deserialize;
use tonic::client::Grpc;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use self::proto::{ByName, GetImageResponse, Image, InfoRequest, ListImagesRequest, ListImagesResponse, Nothing};
use self::proto::{ReadRequest, ReadResponse};
use super::{BuildError, Endpoint, LABEL, Stored, reference};

/// The namespace that the kubelet's images are in.
pub const KUBERNETES: &str = "k8s.io";

/// A manifest, an index or a config is never larger than this.
const DOCUMENT: usize = 4 << 20;

/// An index may name indexes; deeper than this it is nonsense.
const DEPTH: usize = 3;

/// The largest list of images that is read.
const ANSWER: usize = 64 << 20;

/// How long a question may take, however many images it is about. One that accepts connections and says nothing is away.
const WITHIN: Duration = Duration::from_secs(60);

/// A containerd, and the namespace whose images count.
#[derive(Debug, Clone)]
pub struct Containerd {
    endpoint: Endpoint,
    namespace: String,
}

/// How an image stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Name, manifest, config and all layers are there.
    Whole,
    /// The name is there, and something that it stands for is not.
    Broken,
    /// There is no such name.
    Missing,
}

/// The part of a manifest or an index that names other blobs. A list without entries may be `null`.
#[derive(Deserialize)]
struct Parts {
    manifests: Option<Vec<Part>>,
    config: Option<Part>,
    layers: Option<Vec<Part>>,
}

#[derive(Deserialize)]
struct Part {
    digest: String,
    #[serde(default)]
    size: u64,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    config: ConfigOfContainers,
}

#[derive(Deserialize, Default)]
struct ConfigOfContainers {
    #[serde(default, rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

impl Containerd {
    /// The containerd at this address, with the images that the kubelet sees.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, namespace: KUBERNETES.to_owned() }
    }

    /// How each of the images stands.
    pub(super) async fn states(&self, references: &[String]) -> Result<Vec<State>, BuildError> {
        self.ask(async |store| {
            let mut states = Vec::with_capacity(references.len());
            for reference in references {
                states.push(store.state(&reference::full(reference)).await?);
            }
            Ok(states)
        })
        .await
    }

    /// Images with plumb's label.
    pub(super) async fn images(&self) -> Result<Vec<Stored>, BuildError> {
        self.ask(async |store| {
            let mut stored = Vec::new();
            for image in store.list().await?.into_iter().filter(|image| !image.is_id()) {
                // An image that goes while it is looked at is none of ours.
                let (labels, size) = store.config(&image).await?;
                if labels.contains_key(LABEL) {
                    // Not `created_at`: for BuildKit an image was created in 1970, as all that it makes.
                    let created = image.updated_at.map_or(0, |at| at.seconds);
                    stored.push(Stored { reference: image.name, created, labels, size });
                }
            }
            Ok(stored)
        })
        .await
    }

    /// Takes a name away; with the last one, the id that the kubelet's plugin has given the image beside it.
    pub(super) async fn remove(&self, reference: &str) -> Result<(), BuildError> {
        self.ask(async |store| store.remove(&reference::full(reference)).await).await
    }

    /// Asks over a connection of its own.
    async fn ask<T>(&self, question: impl AsyncFnOnce(&mut Store) -> Result<T, Status>) -> Result<T, BuildError> {
        let asked = async { question(&mut self.open().await?).await.map_err(|status| self.failure(&status)) };
        let away = |_| BuildError::Away {
            endpoint: self.endpoint.to_string(),
            reason: format!("no answer for {} s", WITHIN.as_secs()),
        };
        tokio::time::timeout(WITHIN, asked).await.map_err(away)?
    }

    async fn open(&self) -> Result<Store, BuildError> {
        let namespace = MetadataValue::try_from(&self.namespace);
        let namespace = namespace.map_err(|_| BuildError::BadEndpoint(self.namespace.clone()))?;
        let grpc = Grpc::new(self.endpoint.channel().await?).max_decoding_message_size(ANSWER);
        Ok(Store { grpc, namespace })
    }

    fn failure(&self, status: &Status) -> BuildError {
        let (endpoint, reason) = (self.endpoint.to_string(), status.message().to_owned());
        match status.code() {
            Code::Unavailable => BuildError::Away { endpoint, reason },
            _ => BuildError::Builder { endpoint, reason },
        }
    }
}

/// An open connection.
struct Store {
    grpc: Grpc<Channel>,
    namespace: AsciiMetadataValue,
}

impl Store {
    async fn image(&mut self, name: &str) -> Result<Option<Image>, Status> {
        let request = ByName { name: name.to_owned() };
        let found = self.call("/containerd.services.images.v1.Images/Get", request).await;
        let found: Option<GetImageResponse> = if_found(found)?;
        Ok(found.and_then(|answer| answer.image))
    }

    /// An image by its id would keep all that it is made of.
    async fn remove(&mut self, name: &str) -> Result<(), Status> {
        let Some(digest) = self.image(name).await?.map(|image| image.target.unwrap_or_default().digest) else {
            return Ok(());
        };
        self.delete(name).await?;
        let images = self.list().await?.into_iter();
        let (ids, names): (Vec<Image>, Vec<Image>) = images
            .filter(|image| image.target.as_ref().is_some_and(|target| target.digest == digest))
            .partition(Image::is_id);
        if names.is_empty() {
            for id in ids {
                self.delete(&id.name).await?;
            }
        }
        Ok(())
    }

    async fn delete(&mut self, name: &str) -> Result<(), Status> {
        let request = ByName { name: name.to_owned() };
        let deleted: Result<Nothing, Status> = self.call("/containerd.services.images.v1.Images/Delete", request).await;
        if_found(deleted).map(drop)
    }

    async fn state(&mut self, name: &str) -> Result<State, Status> {
        let Some(image) = self.image(name).await? else { return Ok(State::Missing) };
        let whole = self.is_whole(image.target.unwrap_or_default().digest, DEPTH).await?;
        Ok(if whole { State::Whole } else { State::Broken })
    }

    /// Whether the manifest and all that it names are there; of an index, whether that is so for one manifest.
    async fn is_whole(&mut self, digest: String, depth: usize) -> Result<bool, Status> {
        let Some(parts) = self.document::<Parts>(digest).await? else { return Ok(false) };
        if let Some(manifests) = parts.manifests {
            for manifest in manifests {
                if depth > 0 && Box::pin(self.is_whole(manifest.digest, depth - 1)).await? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let Some(config) = parts.config else { return Ok(false) };
        for blob in parts.layers.into_iter().flatten().chain([config]) {
            let request = InfoRequest { digest: blob.digest };
            let info: Option<Nothing> =
                if_found(self.call("/containerd.services.content.v1.Content/Info", request).await)?;
            if info.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn list(&mut self) -> Result<Vec<Image>, Status> {
        let request = ListImagesRequest { filters: Vec::new() };
        let answer: ListImagesResponse = self.call("/containerd.services.images.v1.Images/List", request).await?;
        Ok(answer.images)
    }

    /// The labels in an image's config, none if it can't be read; and the bytes of its config and layers.
    async fn config(&mut self, image: &Image) -> Result<(BTreeMap<String, String>, u64), Status> {
        let mut digest = image.target.clone().unwrap_or_default().digest;
        for _ in 0..=DEPTH {
            let Some(parts) = self.document::<Parts>(digest).await? else { break };
            if let Some(config) = parts.config {
                let size = parts.layers.iter().flatten().fold(config.size, |sum, layer| sum.saturating_add(layer.size));
                let config = self.document::<Config>(config.digest).await?;
                return Ok((config.and_then(|config| config.config.labels).unwrap_or_default(), size));
            }
            let Some(first) = parts.manifests.into_iter().flatten().next() else { break };
            digest = first.digest;
        }
        Ok((BTreeMap::new(), 0))
    }

    /// A blob that is JSON. `None` if it is not there, or is none.
    async fn document<T: for<'de> Deserialize<'de>>(&mut self, digest: String) -> Result<Option<T>, Status> {
        let request = self.request(ReadRequest { digest });
        self.ready().await?;
        let path = http::uri::PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
        let codec = ProstCodec::<ReadRequest, ReadResponse>::default();
        let Some(answer) = if_found(self.grpc.server_streaming(request, path, codec).await)? else { return Ok(None) };
        let mut chunks = answer.into_inner();
        let mut text = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let Some(chunk) = if_found(chunk)? else { return Ok(None) };
            text.extend_from_slice(&chunk.data);
            if text.len() > DOCUMENT {
                return Ok(None);
            }
        }
        Ok(serde_json::from_slice(&text).ok())
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(request);
        self.ready().await?;
        let path = http::uri::PathAndQuery::from_static(path);
        let answer = self.grpc.unary(request, path, ProstCodec::<Q, A>::default()).await?;
        Ok(answer.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }

    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        request
    }
}

fn if_found<T>(answer: Result<T, Status>) -> Result<Option<T>, Status> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_containerd_that_says_nothing_is_away() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("containerd.sock");
        // The kernel takes connections for it; nobody ever reads from them.
        let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let containerd = Containerd::new(Endpoint::Unix(socket));
        let image = "web:1".to_owned();
        let (states, images, removed) = tokio::join!(
            containerd.states(std::slice::from_ref(&image)),
            containerd.images(),
            containerd.remove(&image)
        );
        for error in [states.unwrap_err(), images.unwrap_err(), removed.unwrap_err()] {
            assert!(matches!(&error, BuildError::Away { reason, .. } if reason == "no answer for 60 s"), "{error:?}");
        }
    }
}
