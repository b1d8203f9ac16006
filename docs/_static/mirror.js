// Which columns are shown is written here.
