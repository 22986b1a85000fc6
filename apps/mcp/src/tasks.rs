//! The rows behind the tools. Every statement names the user: another user's tasks are as good as absent.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgPool, Row};
use uuid::Uuid;

use crate::token::User;

const TITLE: usize = 200;
const DESCRIPTION: usize = 4000;

/// A task.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Task {
    id: Uuid,
    title: String,
    description: String,
    completed: bool,
    created_at: DateTime<Utc>,
}

// By hand: for sqlx's derive all of sqlx, TLS and tokio would be compiled a second time, for the compiler's machine.
impl FromRow<'_, PgRow> for Task {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            title: row.try_get("title")?,
            description: row.try_get("description")?,
            completed: row.try_get("completed")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// Which tasks are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Those that are still to be done.
    Open,
    /// Those that are done.
    Done,
}

/// Parts of a task that change; the others stay.
#[derive(Debug, Default)]
pub struct Change {
    /// The new title.
    pub title: Option<String>,
    /// The new description.
    pub description: Option<String>,
    /// Whether it is done.
    pub completed: Option<bool>,
}

/// Why there is no result; in words for the model, which tells people.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It is not there, or somebody else's.
    #[error("There is no task with this id. list_tasks names those that there are.")]
    NotFound,
    /// The text is too long, empty, or not to be stored.
    #[error("The {0} must have {1} to {2} characters, and no NUL among them.")]
    Text(&'static str, usize, usize),
    /// The database has failed.
    #[error("The tasks can't be reached right now.")]
    Database(#[from] sqlx::Error),
}

/// Newest first, and no more than a model can read.
pub async fn list(database: &PgPool, user: User, status: Option<Status>) -> Result<Vec<Task>, TaskError> {
    let tasks = sqlx::query_as(
        "SELECT id, title, description, completed, created_at FROM tasks
         WHERE user_id = $1 AND ($2 IS NULL OR completed = $2) ORDER BY created_at DESC, id LIMIT 100",
    );
    let done = status.map(|status| status == Status::Done);
    Ok(tasks.bind(user.0).bind(done).fetch_all(database).await?)
}

/// A new task.
pub async fn add(database: &PgPool, user: User, title: &str, description: &str) -> Result<Task, TaskError> {
    let task = sqlx::query_as(
        "INSERT INTO tasks (user_id, title, description) VALUES ($1, $2, $3)
         RETURNING id, title, description, completed, created_at",
    );
    let (title, description) = (text("title", title, 1, TITLE)?, text("description", description, 0, DESCRIPTION)?);
    Ok(task.bind(user.0).bind(title).bind(description).fetch_one(database).await?)
}

/// A task as it is after the change.
pub async fn change(database: &PgPool, user: User, id: Uuid, change: &Change) -> Result<Task, TaskError> {
    let title = change.title.as_deref().map(|title| text("title", title, 1, TITLE)).transpose()?;
    let description =
        change.description.as_deref().map(|value| text("description", value, 0, DESCRIPTION)).transpose()?;
    let task = sqlx::query_as(
        "UPDATE tasks SET title = COALESCE($3, title), description = COALESCE($4, description),
                          completed = COALESCE($5, completed), updated_at = now()
         WHERE id = $1 AND user_id = $2 RETURNING id, title, description, completed, created_at",
    );
    let task = task.bind(id).bind(user.0).bind(title).bind(description).bind(change.completed);
    task.fetch_optional(database).await?.ok_or(TaskError::NotFound)
}

/// A task as it was.
pub async fn delete(database: &PgPool, user: User, id: Uuid) -> Result<Task, TaskError> {
    let task = sqlx::query_as(
        "DELETE FROM tasks WHERE id = $1 AND user_id = $2 RETURNING id, title, description, completed, created_at",
    );
    task.bind(id).bind(user.0).fetch_optional(database).await?.ok_or(TaskError::NotFound)
}

fn text<'a>(name: &'static str, value: &'a str, least: usize, most: usize) -> Result<&'a str, TaskError> {
    let value = value.trim();
    match (least..=most).contains(&value.chars().count()) && !value.contains('\0') {
        true => Ok(value),
        false => Err(TaskError::Text(name, least, most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_trimmed_and_bounded() {
        assert_eq!(text("title", " milk ", 1, 4).unwrap(), "milk");
        assert_eq!(text("title", "müüü", 1, 4).unwrap(), "müüü");
        assert_eq!(text("description", "", 0, 4).unwrap(), "");
        for bad in ["", "  ", "milks", "a\0"] {
            assert!(text("title", bad, 1, 4).is_err(), "{bad:?}");
        }
    }
}
