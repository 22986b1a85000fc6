mod diagnosis;
mod environment;
mod properties;
mod table;
