//! What happens when somebody asks for something.
//!
//! [`Cloud`] runs all parts in one process. Each part also stands alone: [`Conductor`] works on
//! accepted operations, [`Agent`] runs one host, [`Admin`] and [`Project`] are the way in. They
//! meet in the store and wake each other over the bus, so that they may as well run on machines
//! of their own.
//!
//! A request goes this way: planned on a view of the records, accepted in one transaction
//! together with its journal, then taken step by step by a conductor, which gives orders to the
//! agents of the hosts concerned and records what came of each.

mod accept;
mod agent;
mod agent_image;
mod api;
mod attempt;
mod attempt_anew;
mod attempt_attach;
mod attempt_drain;
mod attempt_elsewhere;
mod attempt_ends;
mod attempt_image;
mod attempt_live;
mod attempt_move;
mod attempt_rescue;
mod attempt_server;
mod attempt_shelf;
mod board;
mod claiming;
mod conductor;
mod error;
mod guard;
mod linger;
mod options;
mod order;
mod places;
mod ports;
mod prune;
mod question;
mod register;
mod rivals;
mod runner;
pub(crate) mod steps;
mod sweep;
mod view;
mod whole;

pub use agent::Agent;
pub use api::{
    Accepted, Admin, AggregateSpec, BootSource, Census, FlavorSpec, GroupSpec, HostStatus,
    ImageSpec, NetworkUse, PoolUse, Project, Server, ServerSpec, UnknownKeys, VolumeSpec,
};
pub use conductor::Conductor;
pub use error::{ApiError, Overload};
pub use options::CloudOptions;
pub use ports::Ports;
pub use register::HostSpec;
pub use whole::Cloud;
