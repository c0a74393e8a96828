//! Journeys: whole gateways, real sockets, real plugins.

mod backup;
mod candidate;
mod chat_files;
mod chat_hostile;
mod chat_order;
mod chat_rest;
mod chat_rights;
mod chat_socket;
mod cli;
mod contract;
mod crash;
mod doors;
mod gateways;
mod hostile_plugins;
mod import;
mod import_sources;
mod limits;
mod login;
mod operator;
mod operator_routes;
mod password;
mod paths;
mod payments;
mod payments_crash;
mod payments_staff;
mod recorded;
mod recorded_chat;
mod recorded_payments;
mod recorded_sockets;
mod reload;
mod sessions;
mod sms;
mod socket_conformance;
#[cfg(unix)]
mod survive;
mod webhooks;
