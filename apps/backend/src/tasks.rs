//! `/api/tasks`: a user's tasks. Another user's are as good as absent.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json as Body, Router};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::CurrentUser;
use crate::database::from_row;
use crate::error::ApiError;
use crate::extract::{Json, Path, Query};
use crate::server::App;
use crate::text;

const TITLE: usize = 200;
const DESCRIPTION: usize = 4000;

/// Below `/api/tasks`.
pub fn routes() -> Router<App> {
    Router::new().route("/", get(list).post(add)).route("/{id}", get(show).patch(change).delete(remove))
}

#[derive(Serialize)]
struct Task {
    id: Uuid,
    title: String,
    description: String,
    completed: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

from_row!(Task { id, title, description, completed, created_at, updated_at });

#[derive(Serialize)]
struct Tasks {
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Filter {
    status: Option<Status>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Open,
    Done,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTask {
    title: String,
    #[serde(default)]
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    title: Option<String>,
    description: Option<String>,
    completed: Option<bool>,
}

/// Newest first, and no more than a page bears.
async fn list(
    State(app): State<App>,
    user: CurrentUser,
    Query(filter): Query<Filter>,
) -> Result<Body<Tasks>, ApiError> {
    let tasks = sqlx::query_as(
        "SELECT id, title, description, completed, created_at, updated_at FROM tasks
         WHERE user_id = $1 AND ($2 IS NULL OR completed = $2) ORDER BY created_at DESC, id LIMIT 500",
    )
    .bind(user.id)
    .bind(filter.status.map(|status| status == Status::Done))
    .fetch_all(&app.database)
    .await?;
    Ok(Body(Tasks { tasks }))
}

async fn add(
    State(app): State<App>,
    user: CurrentUser,
    Json(new): Json<NewTask>,
) -> Result<(StatusCode, Body<Task>), ApiError> {
    let title = text::required("title", &new.title, TITLE)?;
    let description = text::optional("description", new.description.as_deref().unwrap_or_default(), DESCRIPTION)?;
    let task = sqlx::query_as(
        "INSERT INTO tasks (user_id, title, description) VALUES ($1, $2, $3)
         RETURNING id, title, description, completed, created_at, updated_at",
    )
    .bind(user.id)
    .bind(title)
    .bind(description)
    .fetch_one(&app.database)
    .await?;
    Ok((StatusCode::CREATED, Body(task)))
}

async fn show(State(app): State<App>, user: CurrentUser, Path(id): Path<Uuid>) -> Result<Body<Task>, ApiError> {
    let task: Option<Task> = sqlx::query_as(
        "SELECT id, title, description, completed, created_at, updated_at FROM tasks WHERE id = $1 AND user_id = $2",
    )
    .bind(id)
    .bind(user.id)
    .fetch_optional(&app.database)
    .await?;
    task.map(Body).ok_or(ApiError::NotFound("task"))
}

/// What is not named stays as it is.
async fn change(
    State(app): State<App>,
    user: CurrentUser,
    Path(id): Path<Uuid>,
    Json(change): Json<Change>,
) -> Result<Body<Task>, ApiError> {
    let title = change.title.map(|title| text::required("title", &title, TITLE)).transpose()?;
    let description = change.description.map(|text| text::optional("description", &text, DESCRIPTION)).transpose()?;
    let task: Option<Task> = sqlx::query_as(
        "UPDATE tasks SET title = COALESCE($3, title), description = COALESCE($4, description),
                          completed = COALESCE($5, completed), updated_at = now()
         WHERE id = $1 AND user_id = $2
         RETURNING id, title, description, completed, created_at, updated_at",
    )
    .bind(id)
    .bind(user.id)
    .bind(title)
    .bind(description)
    .bind(change.completed)
    .fetch_optional(&app.database)
    .await?;
    task.map(Body).ok_or(ApiError::NotFound("task"))
}

async fn remove(State(app): State<App>, user: CurrentUser, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let result = sqlx::query("DELETE FROM tasks WHERE id = $1 AND user_id = $2")
        .bind(id)
        .bind(user.id)
        .execute(&app.database)
        .await?;
    match result.rows_affected() {
        0 => Err(ApiError::NotFound("task")),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}
