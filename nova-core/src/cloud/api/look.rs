//! What a project can see of its servers that no record says: their hosts are asked.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use crate::cloud::api::doctor::ANSWER_LIMIT;
use crate::cloud::api::project::Project;
use crate::cloud::error::ApiError;
use crate::cloud::order::{ConsoleText, Question, Told, Untold};
use crate::domain::{GuestUser, InstanceId, Password};
use crate::port::{GuestUse, MessageBusExt as _, Topic, VirtError};

/// How long the agent inside a server is waited for, which a host may have to call several times.
const AGENT_LIMIT: Duration = Duration::from_secs(30);

impl Project {
    /// The last of what a server wrote to its console: `bytes` of it, if there are so many, and
    /// never more than [`CONSOLE_BYTES_MAX`](crate::port::CONSOLE_BYTES_MAX). It is whatever the
    /// server chose to write; see [`ReadConsoles`](crate::port::ReadConsoles).
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::Unsuitable`] for a server that is on no host, or on one
    /// that keeps no consoles; [`ApiError::Driver`] when its host does not say.
    pub async fn console_log(&self, id: InstanceId, bytes: usize) -> Result<Vec<u8>, ApiError> {
        let question = Question::Console { instance: id, bytes };
        let log: ConsoleText = self.ask_host(id, question).await?;
        STANDARD.decode(log).map_err(|error| failed(id, error))
    }

    /// What a server has used since it was last started, as counters; nothing while it is shut
    /// down.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::Unsuitable`] for a server that is on no host, or on one
    /// that does not measure; [`ApiError::Driver`] when its host does not say.
    pub async fn server_use(&self, id: InstanceId) -> Result<GuestUse, ApiError> {
        self.ask_host(id, Question::Use { instance: id }).await
    }

    /// Whether the agent inside a server answers, if the server's image asks for one
    /// ([`AGENT_PROPERTY`](crate::port::AGENT_PROPERTY)).
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::Unsuitable`] for a server that is on no host, or on one
    /// that asks no agents; [`ApiError::Driver`] when its host does not say, as of a server that
    /// does not run.
    pub async fn agent_answers(&self, id: InstanceId) -> Result<bool, ApiError> {
        self.ask_host(id, Question::Agent { instance: id }).await
    }

    /// Has the agent inside a server set the password of a user that the server has. It is kept
    /// nowhere, so that who does not hear that it was set sets it again.
    ///
    /// # Errors
    /// As for [`agent_answers`](Self::agent_answers); [`ApiError::Driver`] also when there is no
    /// agent, or it refuses.
    pub async fn set_password(
        &self,
        id: InstanceId,
        user: &GuestUser,
        password: &Password,
    ) -> Result<(), ApiError> {
        let (user, password) = (user.clone(), password.clone());
        self.ask_host(id, Question::Password { instance: id, user, password }).await
    }

    /// What the host of a server says about it.
    async fn ask_host<T: DeserializeOwned>(
        &self,
        id: InstanceId,
        question: Question,
    ) -> Result<T, ApiError> {
        let server = self.server(id).await?;
        let unsuitable = |reason: &str| ApiError::Unsuitable {
            what: format!("server {id}"),
            reason: reason.to_owned(),
        };
        let host = server.instance.host.ok_or_else(|| unsuitable("it is on no host"))?;
        let limit = match question {
            Question::Agent { .. } | Question::Password { .. } => AGENT_LIMIT,
            _ => ANSWER_LIMIT,
        };
        let limit = limit.min(self.door.options.order_limit);
        let asked = self.door.ports.bus.ask(&Topic::agent(host), &question, limit).await;
        match asked {
            Ok(Told::Ok(answer)) => Ok(answer),
            Ok(Err(Untold::Unable)) => Err(unsuitable("its host cannot tell")),
            Ok(Err(Untold::NoSuchGuest)) => {
                let source = VirtError::NoSuchGuest { instance: id };
                Err(ApiError::Driver { host: host.to_string(), source })
            }
            Ok(Err(Untold::Failed(reason))) => Err(silent(host, reason)),
            Err(error) => Err(silent(host, error)),
        }
    }
}

fn silent(
    host: impl ToString,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ApiError {
    let source = VirtError::Host { operation: "look at a guest", source: source.into() };
    ApiError::Driver { host: host.to_string(), source }
}

fn failed(id: InstanceId, error: base64::DecodeError) -> ApiError {
    silent(format!("of server {id}"), error)
}
