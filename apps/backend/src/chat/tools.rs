//! The tools: those of the MCP server, called in the user's name.

use std::time::Duration;

use reqwest::{Client, Url};
use rmcp::model::{CallToolRequestParams, ClientConfig, ContentBlock, JsonObject};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleClient, ServiceError, ServiceExt};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::completion::ToolCall;
use super::error::ChatError;

/// A call is a statement on a database.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a model is told at most: it has to read it.
const MOST_TEXT: usize = 16 * 1024;

/// A connection to the MCP server, for one chat. Dropped, it ends.
pub struct Tools {
    service: RunningService<RoleClient, ClientConfig>,
    /// The tools as the model's endpoint wants them described.
    pub described: Vec<Value>,
}

/// What became of a call.
pub struct Outcome {
    /// It did what it should.
    pub ok: bool,
    /// For the model.
    pub text: String,
}

impl Tools {
    /// With the user's own token.
    pub async fn connect(http: Client, url: &Url, token: &str) -> Result<Self, ChatError> {
        let config = StreamableHttpClientTransportConfig::with_uri(url.as_str()).auth_header(token);
        let transport = StreamableHttpClientTransport::with_client(http, config);
        let connect = async {
            let service =
                ClientConfig::default().serve(transport).await.map_err(|error| ChatError::Tools(error.into()))?;
            let tools = service.list_all_tools().await.map_err(|error| ChatError::Tools(error.into()))?;
            Ok::<_, ChatError>((service, tools))
        };
        let (service, tools) =
            timeout(PATIENCE, connect).await.map_err(|elapsed| ChatError::Tools(elapsed.into()))??;
        let described = tools
            .iter()
            .map(|tool| {
                let (name, description) = (&tool.name, &tool.description);
                let function = json!({"name": name, "description": description, "parameters": tool.input_schema});
                json!({"type": "function", "function": function})
            })
            .collect();
        Ok(Self { service, described })
    }

    /// Calls one. What goes wrong with the call itself is told to the model, which can do better; only a server that can't be
    /// asked ends the chat.
    pub async fn call(&self, call: &ToolCall) -> Result<Outcome, ChatError> {
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let Ok(arguments) = serde_json::from_str::<JsonObject>(arguments) else {
            return Ok(Outcome { ok: false, text: "The arguments are not a JSON object.".to_owned() });
        };
        let request = CallToolRequestParams::new(call.name.clone()).with_arguments(arguments);
        let result = timeout(PATIENCE, self.service.call_tool(request)).await;
        match result.map_err(|elapsed| ChatError::Tools(elapsed.into()))? {
            Ok(result) => Ok(Outcome { ok: result.is_error != Some(true), text: text(&result.content) }),
            Err(ServiceError::McpError(error)) => Ok(Outcome { ok: false, text: error.message.into_owned() }),
            Err(error) => Err(ChatError::Tools(error.into())),
        }
    }
}

fn text(content: &[ContentBlock]) -> String {
    let parts: Vec<&str> = content.iter().filter_map(|block| Some(block.as_text()?.text.as_str())).collect();
    let text = parts.join("\n");
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + " … (cut)",
        None => text,
    }
}
