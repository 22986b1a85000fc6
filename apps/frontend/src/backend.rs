//! The backend over HTTP: a method a question.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

mod answer;
mod error;
mod nouns;

pub use answer::Piece;
pub use error::Error;
pub use nouns::{Conversation, Id, Message, NoId, Session, Show, Task, Token, User};

/// How long a question may take as a whole; chats take their time.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long until a chat's first byte: the backend answers before the model does.
const CHAT_PATIENCE: Duration = Duration::from_secs(30);
/// How long until somebody is asked again where nobody listened: when all pods are new, kube-proxy takes a moment to lead to them.
const PAUSE: Duration = Duration::from_millis(200);

/// A client of the backend; cheap to clone.
#[derive(Clone, Debug)]
pub struct Backend {
    http: Client,
    base: Url,
}

impl Backend {
    /// A client of the backend at `base`; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// TLS could not be set up.
    pub fn new(base: Url) -> Result<Self, Error> {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(2))
            .pool_idle_timeout(Duration::from_secs(15))
            .build()
            .map_err(Error::Client)?;
        Ok(Self { http, base })
    }

    /// A new account. `email_taken` if there is one.
    pub async fn sign_up(&self, email: &str, password: &str, name: Option<&str>) -> Result<Session, Error> {
        let body = json!({ "email": email, "password": password, "name": name });
        read(&self.once(self.ask(Method::POST, &["auth", "signup"], None).json(&body)).await?)
    }

    /// A session for whoever knows the password.
    pub async fn sign_in(&self, email: &str, password: &str) -> Result<Session, Error> {
        let body = json!({ "email": email, "password": password });
        read(&self.once(self.ask(Method::POST, &["auth", "signin"], None).json(&body)).await?)
    }

    /// Whose token it is.
    pub async fn me(&self, token: &Token) -> Result<User, Error> {
        self.get(&["auth", "me"], token, &()).await
    }

    /// The user's tasks.
    pub async fn tasks(&self, token: &Token, show: Show) -> Result<Vec<Task>, Error> {
        let status = show.status().map(|status| [("status", status)]);
        let tasks: nouns::Tasks = self.get(&["tasks"], token, &status).await?;
        Ok(tasks.tasks)
    }

    /// One task.
    pub async fn task(&self, token: &Token, id: &Id) -> Result<Task, Error> {
        self.get(&["tasks", id.as_str()], token, &()).await
    }

    /// Adds a task.
    pub async fn add_task(&self, token: &Token, title: &str, description: Option<&str>) -> Result<Task, Error> {
        let body = json!({ "title": title, "description": description });
        read(&self.once(self.ask(Method::POST, &["tasks"], Some(token)).json(&body)).await?)
    }

    /// Changes the fields of a task that `change` names.
    pub async fn change_task(&self, token: &Token, id: &Id, change: &Value) -> Result<Task, Error> {
        let change = || self.ask(Method::PATCH, &["tasks", id.as_str()], Some(token)).json(change);
        read(&self.repeated(change).await?)
    }

    /// Deletes a task.
    pub async fn delete_task(&self, token: &Token, id: &Id) -> Result<(), Error> {
        self.delete(&["tasks", id.as_str()], token).await
    }

    /// The user's conversations, the one that changed last first.
    pub async fn conversations(&self, token: &Token) -> Result<Vec<Conversation>, Error> {
        let mut all: nouns::Conversations = self.get(&["conversations"], token, &()).await?;
        all.conversations.sort_by_key(|conversation| std::cmp::Reverse(conversation.updated_at));
        Ok(all.conversations)
    }

    /// What was said in a conversation.
    pub async fn messages(&self, token: &Token, conversation: &Id) -> Result<Vec<Message>, Error> {
        let path = ["conversations", conversation.as_str(), "messages"];
        let all: nouns::Messages = self.get(&path, token, &()).await?;
        Ok(all.messages)
    }

    /// Deletes a conversation.
    pub async fn delete_conversation(&self, token: &Token, id: &Id) -> Result<(), Error> {
        self.delete(&["conversations", id.as_str()], token).await
    }

    /// Says `message` in a conversation, or in a new one. The pieces of the answer come as the model makes them; the last
    /// is `Piece::Done` or an error.
    pub async fn chat(
        &self,
        token: &Token,
        conversation: Option<&Id>,
        message: &str,
    ) -> Result<impl futures::Stream<Item = Result<Piece, Error>> + Send + use<>, Error> {
        let body = json!({ "conversation_id": conversation, "message": message });
        let request = self.ask(Method::POST, &["chat"], Some(token)).json(&body);
        let response = tokio::time::timeout(CHAT_PATIENCE, request.send()).await.map_err(|_| Error::Stalled)?;
        Ok(answer::pieces(accepted(response.map_err(Error::Away)?).await?.bytes_stream()))
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        token: &Token,
        query: &(impl Serialize + ?Sized),
    ) -> Result<T, Error> {
        read(&self.repeated(|| self.ask(Method::GET, path, Some(token)).query(query)).await?)
    }

    async fn delete(&self, path: &[&str], token: &Token) -> Result<(), Error> {
        self.repeated(|| self.ask(Method::DELETE, path, Some(token))).await.map(drop)
    }

    fn ask(&self, method: Method, path: &[&str], token: Option<&Token>) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        let request = self.http.request(method, url);
        match token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }

    /// The body of the answer. For what does the same when it is done twice: what got no answer is asked once more.
    async fn repeated(&self, request: impl Fn() -> RequestBuilder) -> Result<Bytes, Error> {
        match self.once(request()).await {
            // A backend that is being replaced closes connections; another one of them answers.
            Err(Error::Away(error)) if !error.is_timeout() => {
                if error.is_connect() {
                    tokio::time::sleep(PAUSE).await;
                }
                self.once(request()).await
            }
            answer => answer,
        }
    }

    /// The body of the answer.
    async fn once(&self, request: RequestBuilder) -> Result<Bytes, Error> {
        let response = accepted(request.timeout(PATIENCE).send().await.map_err(Error::Away)?).await?;
        response.bytes().await.map_err(Error::Away)
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(Error::Understood)
}

/// The response, if the backend did what it was asked.
async fn accepted(response: Response) -> Result<Response, Error> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status().as_u16();
    // Whatever stands before the backend may answer in its place, with no JSON.
    let refusal: nouns::Refusal = response.json().await.unwrap_or_default();
    Err(Error::Refused { status, code: refusal.error.code, message: refusal.error.message })
}
