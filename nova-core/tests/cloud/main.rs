//! The cloud as its users meet it, on reference parts.

mod doctor;
mod faults;
mod life;
mod world;
