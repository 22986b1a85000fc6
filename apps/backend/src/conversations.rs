//! `/api/conversations`: what was said. Another user's are as good as absent.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json as Body, Router};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use crate::auth::CurrentUser;
use crate::chat::Said;
use crate::database::from_row;
use crate::error::ApiError;
use crate::extract::Path;
use crate::server::App;

/// How much of a conversation the model is told.
const RECENT: i64 = 40;
/// A conversation is named after its beginning.
const TITLE: usize = 80;

/// Below `/api/conversations`.
pub fn routes() -> Router<App> {
    Router::new().route("/", get(list)).route("/{id}", delete(remove)).route("/{id}/messages", get(messages))
}

#[derive(Serialize)]
struct Conversation {
    id: Uuid,
    title: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

from_row!(Conversation { id, title, created_at, updated_at });

#[derive(Serialize)]
struct Conversations {
    conversations: Vec<Conversation>,
}

#[derive(Serialize)]
struct Message {
    id: Uuid,
    role: String,
    content: String,
    created_at: DateTime<Utc>,
}

from_row!(Message { id, role, content, created_at });

#[derive(Serialize)]
struct Messages {
    messages: Vec<Message>,
}

/// The last one first.
async fn list(State(app): State<App>, user: CurrentUser) -> Result<Body<Conversations>, ApiError> {
    let conversations = sqlx::query_as(
        "SELECT id, title, created_at, updated_at FROM conversations
         WHERE user_id = $1 ORDER BY updated_at DESC, id LIMIT 100",
    );
    Ok(Body(Conversations { conversations: conversations.bind(user.id).fetch_all(&app.database).await? }))
}

/// As they were said; of a long conversation the end.
async fn messages(State(app): State<App>, user: CurrentUser, Path(id): Path<Uuid>) -> Result<Body<Messages>, ApiError> {
    owned(&app.database, user.id, id).await?;
    let messages = sqlx::query_as(
        "SELECT id, role, content, created_at FROM
           (SELECT * FROM messages WHERE conversation_id = $1 ORDER BY position DESC LIMIT 500) AS last
         ORDER BY position",
    );
    Ok(Body(Messages { messages: messages.bind(id).fetch_all(&app.database).await? }))
}

async fn remove(State(app): State<App>, user: CurrentUser, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let remove = sqlx::query("DELETE FROM conversations WHERE id = $1 AND user_id = $2").bind(id).bind(user.id);
    match remove.execute(&app.database).await?.rows_affected() {
        0 => Err(ApiError::NotFound("conversation")),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

async fn owned(database: &PgPool, user: Uuid, id: Uuid) -> Result<(), ApiError> {
    let found = sqlx::query("SELECT FROM conversations WHERE id = $1 AND user_id = $2").bind(id).bind(user);
    found.fetch_optional(database).await?.map(drop).ok_or(ApiError::NotFound("conversation"))
}

/// Stores what a user says, in a conversation of the user's or in a new one. The conversation.
pub async fn hear(database: &PgPool, user: Uuid, id: Option<Uuid>, message: &str) -> Result<Uuid, ApiError> {
    let mut transaction = database.begin().await?;
    let conversation: Option<Uuid> = match id {
        Some(id) => {
            let touched = "UPDATE conversations SET updated_at = now() WHERE id = $1 AND user_id = $2 RETURNING id";
            sqlx::query_scalar(touched).bind(id).bind(user).fetch_optional(&mut *transaction).await?
        }
        None => {
            let title: String = message.chars().take(TITLE).collect();
            let new = "INSERT INTO conversations (user_id, title) VALUES ($1, $2) RETURNING id";
            Some(sqlx::query_scalar(new).bind(user).bind(title).fetch_one(&mut *transaction).await?)
        }
    };
    let conversation = conversation.ok_or(ApiError::NotFound("conversation"))?;
    let insert = sqlx::query("INSERT INTO messages (conversation_id, role, content) VALUES ($1, 'user', $2)");
    insert.bind(conversation).bind(message).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(conversation)
}

/// What was said last, in its order.
pub async fn recent(database: &PgPool, conversation: Uuid) -> Result<Vec<Said>, ApiError> {
    let said = sqlx::query_as(
        "SELECT role, content FROM
           (SELECT * FROM messages WHERE conversation_id = $1 ORDER BY position DESC LIMIT $2) AS last
         ORDER BY position",
    );
    Ok(said.bind(conversation).bind(RECENT).fetch_all(database).await?)
}

/// Stores an answer. Its identifier; none if the conversation is gone.
pub async fn answered(database: &PgPool, conversation: Uuid, answer: &str) -> Result<Option<Uuid>, sqlx::Error> {
    let insert = "WITH alive AS (UPDATE conversations SET updated_at = now() WHERE id = $1 RETURNING id)
                  INSERT INTO messages (conversation_id, role, content) SELECT id, 'assistant', $2 FROM alive RETURNING id";
    sqlx::query_scalar(insert).bind(conversation).bind(answer).fetch_optional(database).await
}
