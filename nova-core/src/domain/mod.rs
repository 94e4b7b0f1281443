//! The nouns of a cloud, as types that cannot hold an impossible value.
//!
//! Nothing here does anything: no store, no clock, no await. What acts on these values is in
//! [`port`](crate::port) and [`cloud`](crate::cloud).

mod assigned;
mod classes;
mod credentials;
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
mod numa;
mod numa_fit;
mod operation;
mod pci;
mod pci_alias;
mod project;
mod report;
mod request;
mod resource;
mod row;
mod row_form;
mod security;
mod table;
mod topology;
mod traits;
mod unit;
mod user_data;
mod volume;

pub(crate) use assigned::check_facts;
pub use assigned::{Assigned, AssignedCells, PciDevice, Unassignable};
pub(crate) use classes::ClassLedger;
pub use classes::{ClassAmounts, ClassStocks};
pub use credentials::{GuestUser, Password};
pub use fence::{Fence, RemovedFences};
pub use flavor::{ExtraSpecs, Flavor};
pub use guest::{FailedCheck, Fault, PowerState, Reboot};
pub use host::{
    Admission, Aggregate, AggregateMetadata, ForcedDown, GuestKind, Host, HostFacts, Liveness,
};
pub use id::{
    AggregateId, HostId, ImageId, InstanceId, NetworkId, OpId, SecurityGroupId, ServerGroupId,
    SnapshotId, VolumeId,
};
pub use image::{
    Image, ImageContent, ImageFormat, ImageProperties, ImageState, KeyPair, PublicKey,
};
pub use instance::{Action, Instance, TaskState, VmState};
pub use invalid::Invalid;
pub use migration::Migration;
pub use name::{
    FlavorName, HostName, KeyPairName, Label, PciAddress, PoolName, ProjectId, RequestId,
    ResourceClass, ServerName, TraitName, ZoneName,
};
pub use network::{
    AddressState, FixedIp, FloatingBinding, FloatingIp, FloatingOwner, FloatingPool, InterfaceName,
    MacClaim, Network, NetworkKind, Port, VlanClaim,
};
pub use numa::{
    CpuPolicy, CpuThreadPolicy, GuestCell, GuestTopology, MemoryPages, NumaCell, NumaTopology,
    PageSize,
};
pub use numa_fit::{CellFit, NumaFit, NumaMisfit, Overcommit};
pub use operation::{OpKind, OpState, Operation, StepOutcome, StepRecord};
pub use pci::{Near, PciNumaPolicy, PciPool, PciPools, PciRequest, PciShort};
pub use pci_alias::{PciAlias, PciAliases};
pub use project::{Limit, MaxPerHost, OverQuota, Quantum, Quota, ServerGroup};
pub use report::HostReport;
pub use request::{
    Change, Destination, Funnel, FunnelStage, GroupPolicy, GroupView, NearMiss, Placement, Purpose,
    Refusal, RequestSpec, SchedulerHints,
};
pub use resource::{Inventory, Quantity, ResourceKind, Resources, Stock, Units};
pub use row::{HostState, Measured, Resident};
pub use row_form::HostRow;
pub use security::{Peer, PortRange, SecurityGroup, SecurityRule, Traffic};
pub use table::{HostTable, Slot, TableIdentity, TableRevision};
pub use traits::TraitWish;
pub use unit::{AllocationRatio, GiB, Mac, MiB, Vcpus, VlanId, Vni};
pub use user_data::UserData;
pub use volume::{Attachment, Volume, VolumeSize, VolumeState};
