"""What this installation is: versions, devices and settings that move numbers."""

def facts():
    return {}
