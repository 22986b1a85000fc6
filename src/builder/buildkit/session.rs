//! The session of a build: a gRPC server at the end of a stream that we opened, by which buildkitd asks for the context.
//!
//! The context passes through: buildkitd's window lets the next chunk be read only when it has taken the last ones.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage as Tunnelled;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
};
use bollard_buildkit_proto::moby::filesync::v1::{GetTokenAuthorityRequest, GetTokenAuthorityResponse};
use bollard_buildkit_proto::moby::filesync::v1::{VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse};
use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_server::{Upload, UploadServer};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::dockerfile::Beside;
use crate::builder::{Context, Credentials};

/// What a message of the context holds at most; gRPC's default limit is 4 MiB.
const PIECE: usize = 128 << 10;

/// Room between the session's server and the stream to the daemon, in each direction.
const TUNNEL: usize = 64 << 10;

/// What buildkitd may ask of us.
const METHODS: [&str; 4] = [
    "/moby.upload.v1.Upload/Pull",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/grpc.health.v1.Health/Check",
];

pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A session that has not been opened yet.
pub(super) struct Session {
    /// The name under which a request refers to it.
    pub id: String,
    upload: OneUpload,
    dockerfile: Option<Beside>,
    credentials: Credentials,
}

impl Session {
    /// A session that serves this context, once, and knows these credentials.
    pub fn new(context: Context, credentials: Credentials) -> Self {
        let upload = OneUpload {
            path: format!("/{}", random_id()),
            context: Mutex::new(Some(context)),
            failed: Failed::default(),
        };
        Self { id: random_id(), upload, dockerfile: None, credentials }
    }

    /// The same with a Dockerfile beside the context.
    pub fn with(self, dockerfile: Option<Beside>) -> Self {
        Self { dockerfile, ..self }
    }

    /// Where the frontend finds the context.
    pub fn context_url(&self) -> String {
        format!("http://buildkit-session{}", self.upload.path)
    }

    /// Why the context broke off, if it did.
    pub fn failed(&self) -> Failed {
        self.upload.failed.clone()
    }

    /// Opens it. The session lives while the future is polled, and ends with it.
    pub async fn open(self, control: &mut ControlClient<Channel>) -> Result<impl Future<Output = ()> + use<>, Status> {
        let (ours, theirs) = tokio::io::duplex(TUNNEL);
        let (from_server, mut to_server) = tokio::io::split(ours);
        let mut request = Request::new(chunks(from_server));
        let metadata = request.metadata_mut();
        metadata.insert("x-docker-expose-session-uuid", ascii(&self.id)?);
        metadata.insert("x-docker-expose-session-name", ascii("plumb")?);
        for method in METHODS {
            metadata.append("x-docker-expose-session-grpc-method", ascii(method)?);
        }
        let mut incoming = control.session(request).await?.into_inner();
        let server = serve(self.upload, self.dockerfile, self.credentials, theirs);
        let pump = async move {
            while let Ok(Some(message)) = incoming.message().await {
                if to_server.write_all(&message.data).await.is_err() {
                    break;
                }
            }
        };
        Ok(async move {
            tokio::join!(server, pump);
        })
    }
}

fn ascii(text: &str) -> Result<tonic::metadata::AsciiMetadataValue, Status> {
    text.parse().map_err(|_| Status::internal("a session's metadata is not ASCII"))
}

/// A name that nobody else has.
pub(super) fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

async fn serve(upload: OneUpload, dockerfile: Option<Beside>, credentials: Credentials, connection: DuplexStream) {
    let served = tonic::transport::Server::builder()
        .add_service(UploadServer::new(upload))
        .add_service(AuthServer::new(Logins(credentials)))
        .add_optional_service(dockerfile.map(FileSyncServer::new))
        .add_service(HealthServer::new(Alive))
        .serve_with_incoming(stream::iter([Ok::<_, Infallible>(connection)]))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "the session of a build ended");
    }
}

/// What is read, as the messages of the tunnel, until there is no more.
fn chunks(reader: impl AsyncRead + Unpin + Send + 'static) -> impl Stream<Item = Tunnelled> + Send + 'static {
    stream::unfold(reader, async |mut reader| {
        let mut data = Vec::with_capacity(TUNNEL);
        match reader.read_buf(&mut data).await {
            Ok(read) if read > 0 => Some((Tunnelled { data }, reader)),
            _ => None,
        }
    })
}

/// Why a context broke off. The daemon would only say that a stream ended.
#[derive(Clone, Default)]
pub(in crate::builder) struct Failed(Arc<Mutex<Option<std::io::Error>>>);

impl Failed {
    pub fn set(&self, error: std::io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The reason, once.
    pub fn take(&self) -> Option<std::io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct OneUpload {
    path: String,
    context: Mutex<Option<Context>>,
    failed: Failed,
}

#[tonic::async_trait]
impl Upload for OneUpload {
    type PullStream = Answers<BytesMessage>;

    async fn pull(&self, request: Request<Streaming<BytesMessage>>) -> Result<Response<Self::PullStream>, Status> {
        if request.metadata().get("urlpath").map(|path| path.as_bytes()) != Some(self.path.as_bytes()) {
            return Err(Status::not_found("no such context"));
        }
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner).take();
        let context = context.ok_or_else(|| Status::failed_precondition("the context has been read already"))?;
        let failed = self.failed.clone();
        let pieces = context.flat_map(move |chunk| match chunk {
            Ok(chunk) => stream::iter(pieces(chunk)).left_stream(),
            Err(error) => {
                let said = Status::aborted(format!("the context broke off: {error}"));
                failed.set(error);
                stream::iter([Err(said)]).right_stream()
            }
        });
        Ok(Response::new(Box::pin(pieces)))
    }
}

/// A chunk in pieces that a message can hold.
fn pieces(mut chunk: Bytes) -> impl Iterator<Item = Result<BytesMessage, Status>> {
    std::iter::from_fn(move || {
        let piece = chunk.split_to(chunk.len().min(PIECE));
        (!piece.is_empty()).then(|| Ok(BytesMessage { data: piece.to_vec() }))
    })
}

/// Who we are at a registry; nobody, where nothing is known. Tokens buildkitd gets itself.
struct Logins(Credentials);

#[tonic::async_trait]
impl Auth for Logins {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        let (username, secret) = self.0.of(&request.get_ref().host).unwrap_or_default();
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("ask for Credentials"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("ask for Credentials"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("ask for Credentials"))
    }
}

/// buildkitd asks every few seconds whether the session is well, and ends it if there is no answer.
struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = Answers<HealthCheckResponse>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("ask by Check"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask by Check"))
    }
}
