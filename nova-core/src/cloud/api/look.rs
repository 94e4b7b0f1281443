//! What a project can see of its servers that no record says: their hosts are asked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use crate::cloud::api::doctor::ANSWER_LIMIT;
use crate::cloud::api::project::Project;
use crate::cloud::error::ApiError;
use crate::cloud::order::{ConsoleText, Question, Told, Untold};
use crate::domain::InstanceId;
use crate::port::{GuestUse, MessageBusExt as _, Topic, VirtError};

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
        let limit = ANSWER_LIMIT.min(self.door.options.order_limit);
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
