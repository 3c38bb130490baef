//! Everything that goes wrong is found, told in under five minutes, leaves nothing half stored, and is over when it is made good.

mod processes;
mod stores;
mod times;

use utxoiq_store_testkit::{Fault, FaultProxy, Mode, Receiver, Request};

use super::{
    night::{IN_TIME, Night, STEP, kill9, noise, told_to, tool_of},
    *,
};
