//! The nouns of a cloud, as types that cannot hold an impossible value.
//!
//! Nothing here does anything: no store, no clock, no await. What acts on these values is in
//! [`port`](crate::port) and [`cloud`](crate::cloud).

mod fence;
mod flavor;
mod guest;
mod host;
mod id;
mod image;
mod instance;
mod invalid;
mod migration;
mod name;
mod network;
mod operation;
mod project;
mod request;
mod resource;
mod unit;
mod volume;

pub use fence::{Fence, RemovedFences};
pub use flavor::{ExtraSpecs, Flavor};
pub use guest::{FailedCheck, Fault, PowerState, Reboot};
pub use host::{
    Admission, Aggregate, AggregateMetadata, ForcedDown, GuestKind, Host, HostFacts, HostState,
    HostTable, Liveness,
};
pub use id::{AggregateId, HostId, ImageId, InstanceId, NetworkId, OpId, ServerGroupId, VolumeId};
pub use image::{
    Image, ImageContent, ImageFormat, ImageProperties, ImageState, KeyPair, PublicKey,
};
pub use instance::{Action, Instance, TaskState, VmState};
pub use invalid::Invalid;
pub use migration::Migration;
pub use name::{
    FlavorName, HostName, KeyPairName, Label, PoolName, ProjectId, RequestId, ServerName, ZoneName,
};
pub use network::{
    AddressState, FixedIp, FloatingBinding, FloatingIp, FloatingOwner, FloatingPool, InterfaceName,
    MacClaim, Network, NetworkKind, Port, VlanClaim,
};
pub use operation::{OpKind, OpState, Operation, StepOutcome, StepRecord};
pub use project::{Limit, MaxPerHost, OverQuota, Quantum, Quota, ServerGroup};
pub use request::{
    Change, Funnel, FunnelStage, GroupPolicy, GroupView, NearMiss, Placement, Refusal, RequestSpec,
    SchedulerHints,
};
pub use resource::{Inventory, Quantity, ResourceKind, Resources, Stock};
pub use unit::{AllocationRatio, GiB, Mac, MiB, Vcpus, VlanId};
pub use volume::{Attachment, Volume, VolumeSize, VolumeState};
