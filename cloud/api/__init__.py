"""HTTP interface for clinicians and EHR vendors."""
