//! The tools, as MCP shows them to a model: names, descriptions, schemas.

use axum::http::request::Parts;
use rmcp::handler::server::common::Extension;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::{Json, ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use crate::tasks::{self, Change, Status, Task, TaskError};
use crate::token::User;

/// The tools, on a database.
#[derive(Clone)]
pub struct Tools {
    database: PgPool,
    router: ToolRouter<Self>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct NewTask {
    /// What is to be done, in a few words.
    title: String,
    /// Details, if there are any.
    #[serde(default)]
    description: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Filter {
    /// Only open tasks, or only those that are done; all of them if it is left out.
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Id {
    /// The id of the task, as list_tasks and add_task give it.
    id: Uuid,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Update {
    /// The id of the task, as list_tasks and add_task give it.
    id: Uuid,
    /// The new title; left out, it stays.
    #[serde(default)]
    title: Option<String>,
    /// The new description; left out, it stays.
    #[serde(default)]
    description: Option<String>,
    /// false opens a task again; left out, it stays.
    #[serde(default)]
    completed: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Tasks {
    tasks: Vec<Task>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Deleted {
    deleted: Task,
}

#[tool_router(router = tool_router)]
impl Tools {
    /// On this database.
    pub fn new(database: PgPool) -> Self {
        Self { database, router: Self::tool_router() }
    }

    #[tool(description = "Adds a task to the user's list.")]
    async fn add_task(
        &self,
        Extension(request): Extension<Parts>,
        Parameters(new): Parameters<NewTask>,
    ) -> Result<Json<Task>, String> {
        let description = new.description.as_deref().unwrap_or_default();
        tasks::add(&self.database, user(&request)?, &new.title, description).await.map(Json).map_err(told)
    }

    #[tool(description = "Lists the user's tasks, newest first.", annotations(read_only_hint = true))]
    async fn list_tasks(
        &self,
        Extension(request): Extension<Parts>,
        Parameters(filter): Parameters<Filter>,
    ) -> Result<Json<Tasks>, String> {
        let tasks = tasks::list(&self.database, user(&request)?, filter.status).await.map_err(told)?;
        Ok(Json(Tasks { tasks }))
    }

    #[tool(description = "Marks a task as done.", annotations(idempotent_hint = true))]
    async fn complete_task(
        &self,
        Extension(request): Extension<Parts>,
        Parameters(Id { id }): Parameters<Id>,
    ) -> Result<Json<Task>, String> {
        let change = Change { completed: Some(true), ..Change::default() };
        tasks::change(&self.database, user(&request)?, id, &change).await.map(Json).map_err(told)
    }

    #[tool(description = "Changes a task: its title, its description, or whether it is done.")]
    async fn update_task(
        &self,
        Extension(request): Extension<Parts>,
        Parameters(Update { id, title, description, completed }): Parameters<Update>,
    ) -> Result<Json<Task>, String> {
        let change = Change { title, description, completed };
        tasks::change(&self.database, user(&request)?, id, &change).await.map(Json).map_err(told)
    }

    #[tool(description = "Deletes a task for good.", annotations(destructive_hint = true))]
    async fn delete_task(
        &self,
        Extension(request): Extension<Parts>,
        Parameters(Id { id }): Parameters<Id>,
    ) -> Result<Json<Deleted>, String> {
        let deleted = tasks::delete(&self.database, user(&request)?, id).await.map_err(told)?;
        Ok(Json(Deleted { deleted }))
    }
}

#[tool_handler(router = self.router)]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")))
            .with_instructions("The to-do list of the user whose token the request bears.")
    }
}

/// Nothing comes here without a user; if it did, it would have no tasks.
fn user(request: &Parts) -> Result<User, String> {
    request.extensions.get().copied().ok_or_else(|| "There is no user.".to_owned())
}

/// The words for the model; what is behind them is for the log.
fn told(error: TaskError) -> String {
    if let TaskError::Database(source) = &error {
        tracing::warn!(error = %source, "the database failed");
    }
    error.to_string()
}
