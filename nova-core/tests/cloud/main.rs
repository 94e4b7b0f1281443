//! The cloud as its users meet it, on reference parts.

mod anew;
mod doctor;
mod faults;
mod life;
mod moves;
mod stubborn;
mod world;
