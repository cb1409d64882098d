//! What a device keeps in flash: trust store copies, journal records, the boot log.
