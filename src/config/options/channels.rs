//! Options that are set only for the channels that match a pattern. The table of the reference does not have them, since
//! they have no general value.

options! {
    /// Whether clients may ask who is on the channels, and hear who comes and goes
    presence = "false", live, Flag();
}
