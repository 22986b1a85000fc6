//! The model's endpoint: chat completions of the OpenAI protocol, streamed.

use futures::StreamExt;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sse_stream::SseStream;
use tokio::time::timeout;

use super::agent::Answer;
use super::completion::{Assembly, Completion, Malformed};
use super::error::ChatError;
use crate::config::ModelConfig;

/// A stream that is longer is no answer.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// An endpoint.
#[derive(Clone)]
pub struct Model {
    config: ModelConfig,
    authorization: HeaderValue,
    http: Client,
}

/// A key that is no header's value.
#[derive(Debug, thiserror::Error)]
#[error("OPENAI_API_KEY has characters that a key can't have")]
pub struct BadKey;

impl Model {
    /// Asked with this client.
    pub fn new(config: ModelConfig, http: Client) -> Result<Self, BadKey> {
        let bearer = format!("Bearer {}", config.key.expose_secret());
        let mut authorization = HeaderValue::from_str(&bearer).map_err(|_| BadKey)?;
        // Whatever prints headers leaves it out.
        authorization.set_sensitive(true);
        Ok(Self { config, authorization, http })
    }

    /// One answer to the messages so far; its words are said as they come. Dropped, the request is cancelled.
    ///
    /// With `must_answer` the model may not call a tool any more.
    pub async fn complete(
        &self,
        messages: &[Value],
        tools: &[Value],
        must_answer: bool,
        answer: &mut Answer<'_>,
    ) -> Result<Completion, ChatError> {
        let response = self.ask(messages, tools, must_answer).await?;
        let mut received = 0;
        let bytes = response.bytes_stream().map(move |bytes| {
            let bytes = bytes.map_err(|error| Broken(Box::new(error.without_url())))?;
            received += bytes.len();
            if received > MOST_BYTES { Err(Broken(Malformed::TooLong.into())) } else { Ok(bytes) }
        });
        let mut events = std::pin::pin!(SseStream::from_bytes_stream(bytes));
        let mut assembly = Assembly::default();
        while let Some(event) = timeout(self.config.patience, events.next()).await.map_err(|_| ChatError::TimedOut)? {
            let Some(data) = event.map_err(|error| ChatError::Unreachable(error.into()))?.data else { continue };
            if data.trim() == "[DONE]" {
                break;
            }
            let new = assembly.push(&data)?;
            if !new.is_empty() {
                answer.say(&new).await;
            }
        }
        Ok(assembly.finish()?)
    }

    async fn ask(&self, messages: &[Value], tools: &[Value], must_answer: bool) -> Result<Response, ChatError> {
        let mut body = json!({"model": self.config.model, "messages": messages, "stream": true});
        if let (Some(body), false) = (body.as_object_mut(), tools.is_empty()) {
            body.insert("tools".to_owned(), tools.into());
            body.insert("tool_choice".to_owned(), if must_answer { "none" } else { "auto" }.into());
        }
        let request = self.http.post(self.config.url.clone()).header(AUTHORIZATION, self.authorization.clone());
        let response = timeout(self.config.patience, request.json(&body).send()).await;
        let response = response.map_err(|_| ChatError::TimedOut)?;
        let response = response.map_err(|error| ChatError::Unreachable(Box::new(error.without_url())))?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ChatError::Refused),
            StatusCode::TOO_MANY_REQUESTS => Err(ChatError::Busy),
            other => Err(ChatError::Status(other.as_u16())),
        }
    }
}

/// Why a stream broke.
#[derive(Debug, thiserror::Error)]
#[error("the stream broke")]
struct Broken(#[source] Box<dyn std::error::Error + Send + Sync>);
