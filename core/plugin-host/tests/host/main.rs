//! The host from outside, with components written in the text format.

mod aside;
mod kit;
mod lines;

mod egress;
mod limits;
mod load;
mod output;
mod registry;
mod watch;
