"""What works on this machine, what does not, and the command that changes it."""

from ft_tools.doctor.report import DoctorReport, DoctorRequest
from ft_tools.doctor.tool import doctor

__all__ = ["DoctorReport", "DoctorRequest", "doctor"]
