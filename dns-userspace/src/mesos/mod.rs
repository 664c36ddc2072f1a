//! Where cluster state comes from.

pub mod events;
mod lenient;
pub mod recordio;
mod task_fields;
pub mod tasks;
