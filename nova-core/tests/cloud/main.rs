//! The cloud as its users meet it, on reference parts.

mod anew;
mod apart;
mod behind;
mod broken;
mod chaos;
mod doctor;
mod drain;
mod elsewhere;
mod faults;
mod histories;
mod life;
mod linger;
mod live;
mod moves;
mod older;
mod operator;
mod overload;
mod regressions;
mod removal;
mod rescue;
mod shelf;
mod sites;
mod snapshots;
mod starts;
mod stubborn;
mod world;
