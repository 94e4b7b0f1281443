//! The numbers of what can be asked of a daemon. They are the wire's, never change and are only
//! added to.

pub(super) const CONNECT_OPEN: u32 = 1;
pub(super) const GET_VERSION: u32 = 4;
pub(super) const GET_CAPABILITIES: u32 = 7;
pub(super) const GET_XML_DESC: u32 = 14;
pub(super) const GET_INFO: u32 = 16;
pub(super) const RESUME: u32 = 28;
pub(super) const SUSPEND: u32 = 34;
pub(super) const BLOCK_STATS: u32 = 64;
pub(super) const INTERFACE_STATS: u32 = 65;
pub(super) const AUTH_LIST: u32 = 66;
pub(super) const AUTH_POLKIT: u32 = 70;
pub(super) const NODE_DEVICE_GET_XML_DESC: u32 = 114;
pub(super) const MEMORY_STATS: u32 = 159;
pub(super) const ABORT_JOB: u32 = 164;
pub(super) const ATTACH_DEVICE_FLAGS: u32 = 160;
pub(super) const DETACH_DEVICE_FLAGS: u32 = 161;
pub(super) const MANAGED_SAVE: u32 = 182;
pub(super) const HAS_MANAGED_SAVE_IMAGE: u32 = 183;
pub(super) const MANAGED_SAVE_REMOVE: u32 = 184;
pub(super) const CREATE_WITH_FLAGS: u32 = 196;
pub(super) const GET_STATE: u32 = 212;
pub(super) const UNDEFINE_FLAGS: u32 = 231;
pub(super) const DESTROY_FLAGS: u32 = 234;
pub(super) const SHUTDOWN_FLAGS: u32 = 258;
pub(super) const LIST_ALL_DOMAINS: u32 = 273;
pub(super) const LIST_ALL_NODE_DEVICES: u32 = 285;
pub(super) const GET_JOB_STATS: u32 = 298;
pub(super) const MIGRATE_BEGIN: u32 = 302;
pub(super) const MIGRATE_PREPARE: u32 = 303;
pub(super) const MIGRATE_PERFORM: u32 = 305;
pub(super) const MIGRATE_FINISH: u32 = 306;
pub(super) const MIGRATE_CONFIRM: u32 = 307;
pub(super) const EVENT_REGISTER: u32 = 316;
pub(super) const GET_DOMAIN_CAPABILITIES: u32 = 342;
pub(super) const DEFINE_XML_FLAGS: u32 = 350;
pub(super) const BACKUP_BEGIN: u32 = 421;

/// Of the program for what only QEMU can.
pub(super) const QEMU_AGENT_COMMAND: u32 = 3;

/// What is told unasked, once it was registered.
pub(super) mod told {
    pub(in super::super) const LIFECYCLE: u32 = 318;
    pub(in super::super) const DEVICE_REMOVED: u32 = 333;
    pub(in super::super) const JOB_COMPLETED: u32 = 363;
}

/// The kinds of what can be registered for: `VIR_DOMAIN_EVENT_ID_*`.
pub(super) mod event_id {
    pub(in super::super) const LIFECYCLE: i32 = 0;
    pub(in super::super) const DEVICE_REMOVED: i32 = 15;
    pub(in super::super) const JOB_COMPLETED: i32 = 21;
}
